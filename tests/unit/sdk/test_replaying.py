"""A past decision runs again by its own function, against the real server."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import loopgrid
from loopgrid import LoopGrid, Model, Prompt, errors
from tests.support.server import RunningServer, running_server
from tests.unit.sdk.conftest import QUICK

if TYPE_CHECKING:
    from collections.abc import Hashable as OnlyForTypeCheckers

FIRST = Prompt("triage", version="1", template="Sort: {subject}")
SECOND = Prompt("triage", version="2", template="Sort with care: {subject}")
SMALL = Model("example", "small", temperature=0.0)


@dataclass
class Ticket:
    subject: str
    opened: dt.date


@loopgrid.decision("triage")
def triage(ticket: Ticket, *, prompt: Prompt = FIRST, model: Model = SMALL) -> dict[str, Any]:
    text = prompt.render(subject=ticket.subject)
    return {
        "text": text,
        "by": model.name,
        "year": ticket.opened.year,
        "heat": model.parameters.get("temperature"),
    }


@loopgrid.decision("later")
async def later(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


@loopgrid.decision("divide")
def divide(by: int) -> float:
    return 1 / by


@loopgrid.decision("loose")
def loose(when, payload: dict[str, Any], *rest: int, **more: str) -> list[Any]:
    return [str(when), payload, list(rest), more]


@loopgrid.decision("unresolved")
def unresolved(value: OnlyForTypeCheckers) -> str:
    return str(value)


@loopgrid.decision("quiet")
def quiet(subject: str) -> str:
    return FIRST.render(subject=subject)


@loopgrid.decision("spell")
def spell(word: str) -> Iterator[str]:
    yield from word


@loopgrid.decision("spell later", reduce="".join)
async def spell_later(word: str) -> AsyncIterator[str]:
    for letter in word:
        yield letter


@loopgrid.decision("spell lazily", reduce="".join)
def spell_lazily(word: str) -> Iterator[str]:
    return iter(word.upper())


class Desk:
    def __init__(self, name: str) -> None:
        self.name = name

    @loopgrid.decision("assign")
    def assign(self, ticket: int) -> str:
        return f"{self.name} {ticket}"

    @classmethod
    @loopgrid.decision("label")
    def label(cls, suffix: str) -> str:
        return cls.__name__ + suffix


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("replay")) as running:
        yield running


@pytest.fixture
def grid(real_server: RunningServer, fresh_process: None) -> Iterator[LoopGrid]:
    loopgrid.configure(endpoint=real_server.api, service_name="replay-test", delivery=QUICK)
    with LoopGrid() as client:
        yield client
    loopgrid.shutdown(5)


def latest(grid: LoopGrid, decision_type: str) -> str:
    (decision,) = grid.list_decisions(decision_type=decision_type, include_replays=True, limit=1)["items"]
    return str(decision["decision_id"])


def test_a_replay_runs_the_function_with_another_prompt_version_and_is_a_decision(grid):
    triage(Ticket("refund", dt.date(2026, 1, 2)))
    original = latest(grid, "triage")

    replay = grid.replay(original, overrides={"prompt": {"version": "2"}})

    assert (replay["status"], replay["decision_id"], replay.exception) == ("completed", original, None)
    result = grid.get_decision(replay["result_decision_id"])
    assert result["output"] == {"text": "Sort with care: refund", "by": "small", "year": 2026, "heat": 0.0}
    assert result["prompt"]["version"] == "2"
    assert (result["replay_id"], result["replay_of"]) == (replay["replay_id"], original)
    assert result["trace_id"] != original[:32]
    links = grid.sql(
        "SELECT links FROM spans WHERE trace_id = ? AND span_id = ?", replay["result_decision_id"].split("-")
    )["rows"]
    assert original[:32] in str(links)
    assert "replay_of" in str(links)


def test_without_overrides_the_same_comes_out(grid):
    triage(Ticket("same", dt.date(2026, 1, 2)), model=Model("example", "large", temperature=0.5, extra=[1]))
    original = latest(grid, "triage")

    replay = grid.replay(original)

    result = grid.get_decision(replay["result_decision_id"])
    before = grid.get_decision(original)
    for part in ("input", "output", "prompt", "model", "function", "decision_type", "service_name"):
        assert result[part] == before[part]


def test_model_input_and_template_can_be_replaced(grid):
    triage(Ticket("x", dt.date(2026, 1, 2)))
    overrides = {
        "prompt": {"template": "Just {subject}"},
        "model": {"name": "large", "parameters": {"temperature": 1.0}},
        "input": {"ticket": {"subject": "y", "opened": "2027-01-01"}},
    }

    replay = grid.replay(latest(grid, "triage"), overrides=overrides)

    result = grid.get_decision(replay["result_decision_id"])
    assert result["output"] == {"text": "Just y", "by": "large", "year": 2027, "heat": 1.0}
    assert result["prompt"] == {
        "name": "triage",
        "version": None,
        "template": "Just {subject}",
        "variables": {"subject": "y"},
    }
    assert replay["overrides"] == overrides


def test_a_coroutine_function_is_run_in_a_loop_of_its_own(grid):
    asyncio.run(later(1))

    replay = grid.replay(latest(grid, "later"), overrides={"input": {"number": 5}})

    assert grid.get_decision(replay["result_decision_id"])["output"] == 6


def test_a_streamed_decision_is_streamed_to_its_end_again(grid):
    async def consume() -> None:
        async for _ in spell_later("ab"):
            pass

    list(spell("ab"))
    asyncio.run(consume())
    list(spell_lazily("ab"))

    outputs = []
    for decision_type in ("spell", "spell later", "spell lazily"):
        replay = grid.replay(latest(grid, decision_type), overrides={"input": {"word": "xyz"}})
        assert (replay["status"], replay.exception) == ("completed", None)
        result = grid.get_decision(replay["result_decision_id"])
        assert (result["status"], result["lossiness"]) == ("ok", None)
        outputs.append(result["output"])
    assert outputs == [["x", "y", "z"], "xyz", "XYZ"]


def test_inside_a_running_loop_it_says_how_to_call_it(grid):
    asyncio.run(later(1))
    original = latest(grid, "later")

    async def inside():
        with pytest.raises(errors.NotReplayable, match=r"await asyncio\.to_thread"):
            grid.replay(original)
        return await asyncio.to_thread(grid.replay, original)

    assert asyncio.run(inside())["status"] == "completed"


def test_a_function_that_raises_is_a_failed_replay_and_not_an_error(grid):
    divide(1)

    replay = grid.replay(latest(grid, "divide"), overrides={"input": {"by": 0}})

    assert replay["status"] == "failed"
    assert isinstance(replay.exception, ZeroDivisionError)
    assert grid.get_decision(replay["result_decision_id"])["error"]["type"] == "ZeroDivisionError"


def test_a_function_that_ends_the_program_ends_it_and_leaves_its_record(grid):
    @loopgrid.decision("quit")
    def leave(code: int) -> None:
        if code:
            raise SystemExit(code)

    leave(0)
    with pytest.raises(SystemExit):
        grid.replay(latest(grid, "quit"), overrides={"input": {"code": 3}})

    assert grid.get_decision(latest(grid, "quit"))["error"]["type"] == "SystemExit"


def test_a_decision_inside_a_replay_is_no_second_result(grid):
    @loopgrid.decision("outer")
    def outer(by: int) -> float:
        return divide(by)

    outer(1)
    replay = grid.replay(latest(grid, "outer"), overrides={"input": {"by": 4}})

    assert grid.get_decision(replay["result_decision_id"])["decision_type"] == "outer"
    inner = grid.get_decision(latest(grid, "divide"))
    assert inner["output"] == 0.25
    assert inner["replay_id"] is None


def test_variadic_arguments_come_back(grid):
    loose("now", {"a": 1}, 1, 2, x="y")

    replay = grid.replay(latest(grid, "loose"))

    result = grid.get_decision(replay["result_decision_id"])
    assert result["output"] == ["now", {"a": 1}, [1, 2], {"x": "y"}]


@pytest.mark.parametrize(
    ("when", "payload", "named"),
    [
        (dt.date(2026, 1, 2), {}, "input.when was not recorded as it was (input.when:untyped:datetime.date)"),
        ("now", {"when": {1}}, "input.payload was not recorded as it was (input.payload:untyped:set)"),
        (object(), {}, "input.when was not recorded as it was (input.when:repr:object)"),
    ],
)
def test_what_json_did_not_keep_is_refused_and_leaves_no_replay(grid, when, payload, named):
    loose(when, payload)
    original = latest(grid, "loose")

    with pytest.raises(errors.NotReplayable) as refused:
        grid.replay(original)

    assert refused.value.message.startswith(named)
    assert grid.get_decision(original)["replays"] == []


def test_what_was_not_recorded_can_be_given(grid):
    loose(dt.date(2026, 1, 2), {})

    replay = grid.replay(latest(grid, "loose"), overrides={"input": {"when": "given"}})

    assert grid.get_decision(replay["result_decision_id"])["output"][0] == "given"


def test_a_class_method_is_found_and_a_method_wants_its_object(grid):
    Desk.label("!")
    Desk("first").assign(7)

    replay = grid.replay(latest(grid, "label"), overrides={"input": {"suffix": "?"}})
    assert grid.get_decision(replay["result_decision_id"])["output"] == "Desk?"

    original = latest(grid, "assign")
    with pytest.raises(errors.NotReplayable, match=r"is a method .* function=obj\.assign"):
        grid.replay(original)
    replay = grid.replay(original, function=Desk("second").assign)
    assert grid.get_decision(replay["result_decision_id"])["output"] == "second 7"


def test_an_unknown_version_names_those_that_exist(grid):
    triage(Ticket("x", dt.date(2026, 1, 2)))

    with pytest.raises(errors.NotReplayable, match=r"has no version '9'.*its versions are 1, 2\b"):
        grid.replay(latest(grid, "triage"), overrides={"prompt": {"version": "9"}})


def test_a_version_the_ledger_knows_by_name_only_is_said_to_lack_its_template(grid):
    triage(Ticket("x", dt.date(2026, 1, 2)))
    grid.record_decision(decision_type="by_hand", prompt={"name": "triage", "version": "7"})

    with pytest.raises(errors.NotReplayable) as refused:
        grid.replay(latest(grid, "triage"), overrides={"prompt": {"version": "7"}})

    assert "version 7 is in the ledger without its template" in refused.value.message
    assert "has no version" not in refused.value.message


def test_a_version_this_process_does_not_define_is_found_in_the_ledger(grid):
    elsewhere = Prompt.recorded("triage", version="old", template="Old: {subject}")
    triage(Ticket("x", dt.date(2026, 1, 2)), prompt=elsewhere)
    triage(Ticket("y", dt.date(2026, 1, 2)))

    replay = grid.replay(latest(grid, "triage"), overrides={"prompt": {"version": "old"}})

    assert grid.get_decision(replay["result_decision_id"])["output"]["text"] == "Old: y"


@pytest.mark.parametrize(
    ("overrides", "kind", "said"),
    [
        ({"input": {"tiket": 1}}, errors.Invalid, "did you mean 'ticket'"),
        ({"input": {"prompt": {}}}, errors.Invalid, "replace it in overrides['prompt']"),
        ({"prompts": {}}, errors.Invalid, "did you mean 'prompt'"),
        ({"prompt": {"variables": {"x": 1}}}, errors.Invalid, "has no placeholder 'x'"),
        ({"input": {"ticket": {"subject": 3}}}, errors.NotReplayable, "argument 'ticket', field 'subject'"),
    ],
)
def test_an_override_that_fits_nothing_is_refused_and_leaves_no_replay(grid, overrides, kind, said):
    triage(Ticket("x", dt.date(2026, 1, 2)))
    original = latest(grid, "triage")

    with pytest.raises(kind) as refused:
        grid.replay(original, overrides=overrides)

    assert said in refused.value.message
    assert grid.get_decision(original)["replays"] == []


def test_an_override_nothing_would_use_is_refused(grid):
    quiet("x")

    with pytest.raises(errors.NotReplayable, match="takes no Prompt argument"):
        grid.replay(latest(grid, "quiet"), overrides={"prompt": {"version": "2"}})


def test_a_hint_that_only_a_type_checker_sees_is_named(grid):
    unresolved("x")

    with pytest.raises(errors.NotReplayable, match="type hint of argument 'value' cannot be resolved"):
        grid.replay(latest(grid, "unresolved"))


def test_a_function_that_is_not_here_or_not_decorated_is_named(grid):
    decision = grid.record_decision(decision_type="made elsewhere", input={"a": 1})

    with pytest.raises(errors.NotReplayable, match="names no function"):
        grid.replay(decision["decision_id"])
    with pytest.raises(errors.NotReplayable, match="is not decorated"):
        grid.replay(decision["decision_id"], function=len)


def test_what_the_server_refuses_is_not_run(grid):
    decision = grid.record_decision(decision_type="divide", input={"by": 0})

    replay = grid.replay(decision["decision_id"], function=divide)

    assert (replay["status"], replay.exception) == ("refused", None)
    assert "Nothing ran" in replay["reason"]


def test_a_replay_that_would_leave_no_record_is_not_run(grid, real_server):
    divide(1)
    original = latest(grid, "divide")
    loopgrid.configure(endpoint="http://127.0.0.1:9")

    with pytest.raises(errors.Misconfigured, match=r"this process records to http://127\.0\.0\.1:9"):
        grid.replay(original)

    loopgrid.configure(endpoint=real_server.api, disabled=True)
    with pytest.raises(errors.Fatal, match="recording is disabled"):
        grid.replay(original)


def test_an_unknown_prompt_name_is_answered_with_the_nearest_this_process_defines(grid):
    triage(Ticket("x", dt.date(2026, 1, 2)))

    with pytest.raises(errors.NotReplayable, match=r"no prompt of that name is known \(.*'triage'"):
        grid.replay(latest(grid, "triage"), overrides={"prompt": {"name": "triag", "version": "2"}})
