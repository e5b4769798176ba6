"""Steps, tool calls and blocks: what happens inside a decision has a name, arguments and a result."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import pytest

import loopgrid
from loopgrid import Model, Prompt


@loopgrid.tool(effect="read", name="find_order", call_id="call")
def find_order(order: int, call: str | None = None) -> dict[str, int]:
    return {"order": order}


@loopgrid.step
def normalise(text: str) -> str:
    return text.lower()


@loopgrid.step("wait a moment")
async def wait(turns: int) -> int:
    await asyncio.sleep(0)
    return turns


def test_a_tool_call_carries_standard_attributes_its_effect_arguments_and_result(recording):
    @loopgrid.decision("refund")
    def refund() -> None:
        find_order(4711, call="call_1")

    refund()

    assert loopgrid.flush()
    call, decision = recording.spans
    assert (call.name, call.parent_span_id) == ("execute_tool find_order", decision.span_id)
    said = call.attributes
    assert said["gen_ai.operation.name"] == "execute_tool"
    assert said["gen_ai.tool.name"] == "find_order"
    assert said["gen_ai.tool.call.id"] == "call_1"
    assert said["loopgrid.tool.effect"] == "read"
    assert json.loads(said["gen_ai.tool.call.arguments"]) == {"order": 4711}
    assert json.loads(said["gen_ai.tool.call.result"]) == {"order": 4711}
    assert [said["loopgrid.producer.seq"], decision.attributes["loopgrid.producer.seq"]] == [2, 1]


def test_a_step_carries_its_name_arguments_and_result_and_current_stays_the_decision(recording):
    @loopgrid.decision("read")
    async def read() -> None:
        normalise("ABC")
        await wait(3)
        loopgrid.current().tags("seen")

    asyncio.run(read())

    assert loopgrid.flush()
    first, second, decision = recording.spans
    assert [first.name, second.name] == ["normalise", "wait a moment"]
    assert first.attributes["loopgrid.step.name"] == "normalise"
    assert json.loads(first.attributes["loopgrid.step.input"]) == {"text": "ABC"}
    assert json.loads(first.attributes["loopgrid.step.output"]) == "abc"
    assert json.loads(second.attributes["loopgrid.step.output"]) == 3
    assert decision.attributes["loopgrid.tags"] == ("seen",) or decision.attributes["loopgrid.tags"] == [
        "seen"
    ]


def test_steps_and_tools_go_on_every_kind_of_callable_and_keep_its_type(recording):
    class Desk:
        @loopgrid.step("letters")
        def letters(self, word: str) -> Iterator[str]:
            yield from word

        @loopgrid.tool(effect="read", reduce="".join)
        @staticmethod
        async def later(word: str) -> AsyncIterator[str]:
            for letter in word:
                yield letter

        @classmethod
        @loopgrid.step(stream=True)
        def lazily(cls, word: str) -> Iterator[str]:
            return iter(word)

    async def main() -> list[str]:
        return [letter async for letter in Desk.later("cd")]

    assert list(assert_type(Desk().letters("ab"), Iterator[str])) == ["a", "b"]
    assert asyncio.run(main()) == ["c", "d"]
    assert list(Desk.lazily("ef")) == ["e", "f"]
    assert_type(normalise("x"), str)
    assert_type(find_order(1), dict[str, int])

    assert loopgrid.flush()
    letters, later, lazily, *_ = recording.spans
    assert json.loads(letters.attributes["loopgrid.step.output"]) == ["a", "b"]
    assert json.loads(letters.attributes["loopgrid.step.input"]) == {"word": "ab"}
    assert json.loads(later.attributes["gen_ai.tool.call.result"]) == "cd"
    assert json.loads(lazily.attributes["loopgrid.step.output"]) == ["e", "f"]


def test_a_failing_tool_is_recorded_as_failed_and_raises(decided):
    @loopgrid.tool(effect="write")
    def pay() -> None:
        raise TimeoutError("bank")

    with pytest.raises(TimeoutError):
        pay()

    assert (decided().status, decided().attributes["error.type"]) == ("error", "TimeoutError")


@pytest.mark.parametrize(
    ("write", "advice"),
    [
        (lambda: loopgrid.tool(find_order), r'write @loopgrid.tool\(effect="read"\) above the def'),
        (lambda: loopgrid.tool(name="x"), r'write @loopgrid.tool\(effect="read"\)'),
        (lambda: loopgrid.tool(effect="reads"), 'write one of "read", "idempotent", "write", "irreversible"'),
        (lambda: loopgrid.tool(effect="read", name=" "), "a tool has a name"),
        (
            lambda: loopgrid.tool(effect="read", call_id="id")(lambda order: 1),
            "has no parameter 'id'.*it has order",
        ),
        (lambda: loopgrid.step(" "), "a step has a name"),
        (lambda: loopgrid.step("x")(int), "not on the class int"),
        (lambda: loopgrid.decide(""), r'write with loopgrid.decide\("refund", input=…\)'),
        (lambda: loopgrid.decide("x", prompt="support"), r"write prompt=loopgrid.Prompt\(…\)"),  # type: ignore[arg-type]
        (lambda: loopgrid.decide("x")(lambda: 1), r"above a def write @loopgrid.decision\('x'\)"),
    ],
)
def test_a_misuse_is_answered_with_what_to_write_instead(write, advice):
    with pytest.raises((TypeError, ValueError), match=advice):
        write()


def test_a_block_is_a_decision_with_input_prompt_model_and_output(decided):
    support = Prompt("support", version="1", template="Help {name}")
    with loopgrid.decide(
        "refund", input={"order": 1}, prompt=support, model=Model("openai", "m")
    ) as decision:
        assert loopgrid.current() is decision
        support.render(name="Ada")
        decision.output = {"refund": True}
    assert loopgrid.current().decision_id is None

    span = decided()
    assert (span.name, span.status, span.input, span.output) == (
        "refund",
        "ok",
        {"order": 1},
        {"refund": True},
    )
    assert span.attributes["gen_ai.prompt.name"] == "support"
    assert span.attributes["gen_ai.prompt.variable.name"] == "Ada"
    assert span.attributes["loopgrid.prompt.rendered"] == "Help Ada"
    assert span.attributes["gen_ai.request.model"] == "m"


def test_a_block_without_output_has_none_and_one_that_raises_has_failed(recording):
    with loopgrid.decide("nothing"):
        pass

    def fail() -> None:
        with loopgrid.decide("fails") as decision:
            decision.output = "never counted"
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert loopgrid.flush()
    nothing, fails = recording.spans
    assert (nothing.status, "loopgrid.decision.output" in nothing.attributes) == ("ok", False)
    assert "loopgrid.decision.input" not in nothing.attributes
    assert (fails.status, "loopgrid.decision.output" in fails.attributes) == ("error", False)


def test_a_block_in_a_generator_that_another_task_closes_logs_nothing(decided, caplog):
    async def words():
        async with loopgrid.decide("talk"):
            yield "a"
            yield "b"

    async def main() -> None:
        chunks: Any = words()
        await anext(chunks)
        await asyncio.create_task(chunks.aclose())

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())

    assert caplog.records == []
    assert decided().losses == ["output:incomplete:closed"]


def test_business_key_outcome_options_and_what_was_not_done_have_a_place(decided):
    @loopgrid.decision("refund")
    def refund() -> str:
        now = loopgrid.current()
        now.key("order", 4711)
        now.outcome({"status": "approved"})
        now.considered([{"refund": 10}, "nothing"])
        now.not_executed({"pay": 10}, reason="dry run")
        now.not_executed("notify", reason="dry run")
        return "ok"

    refund()

    said = decided().attributes
    assert said["loopgrid.key.order"] == "4711"
    assert json.loads(said["loopgrid.decision.outcome"]) == {"status": "approved"}
    assert json.loads(said["loopgrid.decision.considered"]) == [{"refund": 10}, "nothing"]
    assert json.loads(said["loopgrid.decision.not_executed"]) == [
        {"action": {"pay": 10}, "reason": "dry run"},
        {"action": "notify", "reason": "dry run"},
    ]


def test_a_stated_output_takes_the_place_of_what_is_returned_and_yielded(recording):
    @loopgrid.decision("answer")
    def answer() -> bytes:
        loopgrid.current().output = {"refund": True}
        return b"HTTP/1.1 200"

    @loopgrid.decision("stream")
    def stream() -> Iterator[str]:
        loopgrid.current().output = "whole"
        yield "part"

    assert answer() == b"HTTP/1.1 200"
    assert list(stream()) == ["part"]

    assert loopgrid.flush()
    assert [span.output for span in recording.spans] == [{"refund": True}, "whole"]


def test_options_that_are_an_iterator_are_not_consumed(decided):
    options = iter([1, 2])

    @loopgrid.decision("choose")
    def choose() -> int:
        loopgrid.current().considered(options)
        return next(options)

    assert choose() == 1
    assert decided().losses == ["loopgrid.decision.considered:refused:list_iterator"]


def test_source_digest_commit_and_state_are_recorded_where_they_are_known(receiver, tmp_path):
    (tmp_path / "app.py").write_text(
        "import sys, loopgrid\n"
        "@loopgrid.decision('greet')\n"
        "def greet(name):\n    return name\n"
        "loopgrid.configure(endpoint=sys.argv[1])\n"
        "import threading\n"
        "@loopgrid.decision('wait')\n"
        "def wait():\n"
        "    [t.join() for t in threading.enumerate() if t.name == 'loopgrid-provenance']\n"
        "wait()\n"
        "greet('b')\n"
    )
    for command in (
        ["init", "--quiet"],
        ["add", "app.py"],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "x"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    subprocess.run([sys.executable, tmp_path / "app.py", receiver.url], check=True, cwd=tmp_path)

    first, second = (span.attributes for span in receiver.spans)
    assert first["vcs.ref.head.revision"] == head.stdout.strip()
    assert len(first["loopgrid.function.sha256"]) == 64
    assert first["loopgrid.commit.dirty"] is False, "git answered while it ran"
    assert second["loopgrid.commit.dirty"] is False
    assert "loopgrid.package.version" not in second
