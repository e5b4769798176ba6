"""Real calls over a real socket: what leaves, what comes back, and what is said where nothing does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from loopgrid_query.replay.calling import Answer, Caller, CallFailed
from loopgrid_query.replay.providers import Provider
from loopgrid_query.replay.request import ANTHROPIC, OPENAI, ModelRequest
from tests.support.clock import Clock
from tests.support.provider_stub import Provider as Stub
from tests.support.provider_stub import Reply, answered, provider_stub, refusal

KEY = "sk-very-secret"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "My blender broke."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "order", "arguments": '{"id": 7}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "sent"},
]
TOOLS = [
    {"type": "function", "function": {"name": "order", "description": "d", "parameters": {"type": "object"}}}
]
PARAMETERS = {
    "temperature": 0.2,
    "top_p": 0.9,
    "max_tokens": 64,
    "stop": ["END"],
    "seed": 7,
    "presence_penalty": 0.1,
    "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": {"type": "object"}}},
    "tool_choice": "auto",
    "min_p": 0.1,
}
NAMED = [*MESSAGES, {"role": "user", "content": "And now?", "name": "ann"}]


@pytest.fixture(scope="module")
def running() -> Iterator[Stub]:
    with provider_stub() as stub:
        yield stub


@pytest.fixture
def stub(running: Stub) -> Stub:
    running.again()
    return running


def request(protocol: str = OPENAI, **fields: Any) -> ModelRequest:
    given = {"messages": NAMED, "tools": TOOLS, "parameters": PARAMETERS, **fields}
    return ModelRequest(provider="acme", protocol=protocol, model="m-1", told=[], **given)


def provider(stub: Stub, **settings: Any) -> Provider:
    return Provider("acme", OPENAI, stub.base_url, **{"api_key": KEY, "timeout_s": 20.0, **settings})


def call(asked: ModelRequest, whom: Provider) -> tuple[Answer | CallFailed, list[float]]:
    """One call, and the pauses that it made."""
    clock = Clock()

    async def run() -> Answer | CallFailed:
        caller = Caller(clock.sleep, spread=lambda: 0.5, now=clock.now)
        try:
            return await caller.call(asked, whom)
        except CallFailed as failed:
            return failed
        finally:
            await caller.close()

    return asyncio.run(run()), clock.pauses


def answer(asked: ModelRequest, whom: Provider) -> Answer:
    found, _ = call(asked, whom)
    assert isinstance(found, Answer), found
    return found


def failure(stub: Stub, *, asked: int = 1, **settings: Any) -> CallFailed:
    found, _ = call(request(), provider(stub, **settings))
    assert isinstance(found, CallFailed), found
    assert len(stub.asked) == asked
    assert KEY not in str(found)
    assert str(found).endswith(".")
    return found


def test_what_arrives_is_the_request_and_nothing_besides(stub):
    answer(request(), provider(stub))

    (asked,) = stub.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body == {"model": "m-1", "messages": NAMED, "tools": TOOLS, **PARAMETERS}


def test_without_parameters_and_tools_none_are_sent(stub):
    answer(request(tools=[], parameters={}), provider(stub, api_key=None))

    assert stub.asked[0].body == {"model": "m-1", "messages": NAMED}


def test_an_answer_is_told_in_the_words_of_the_record(stub):
    found = answer(request(), provider(stub))

    assert found.messages == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "I read 8 words."}],
            "finish_reason": "stop",
        }
    ]
    assert found.usage == {
        "input_tokens": 8,
        "output_tokens": 4,
        "cache_read_tokens": 1,
        "reasoning_tokens": 2,
    }
    assert (found.model, found.response_id) == ("m-1-2026-10-01", "chatcmpl-stub")
    assert (found.finish_reasons, found.attempts) == (["stop"], 1)
    assert found.duration_ms > 0


def test_calls_of_tools_and_thoughts_are_part_of_the_answer(stub):
    calls = [{"id": "c2", "type": "function", "function": {"name": "order", "arguments": '{"id": 8}'}}]
    stub.always(lambda asked: answered(asked, content=None, tool_calls=calls, reasoning_content="Hm."))

    found = answer(request(), provider(stub))

    (message,) = found.messages
    assert message["parts"] == [
        {"type": "reasoning", "content": "Hm."},
        {"type": "tool_call", "id": "c2", "name": "order", "arguments": {"id": 8}},
    ]
    assert found.finish_reasons == ["tool_call"]


def test_several_choices_are_several_messages(stub):
    found = answer(request(parameters={"n": 3}), provider(stub))

    assert len(found.messages) == len(found.finish_reasons) == 3


def anthropic(stub: Stub, **settings: Any) -> Provider:
    base_url = stub.base_url.removesuffix("/v1")
    return replace(provider(stub, **settings), name="anthropic", protocol=ANTHROPIC, base_url=base_url)


def test_anthropic_is_asked_in_its_own_words(stub):
    asked = request(
        ANTHROPIC,
        messages=[*MESSAGES, {"role": "tool", "tool_call_id": "c2", "content": "lost"}],
        parameters={"max_tokens": 64, "stop": ["END"], "top_k": 4, "tool_choice": "required"},
    )

    found = answer(asked, anthropic(stub))

    (seen,) = stub.asked
    assert (seen.path, seen.headers["x-api-key"]) == ("/v1/messages", KEY)
    assert seen.body == {
        "model": "m-1",
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "My blender broke."},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "order", "input": {"id": 7}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "sent"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "lost"},
                ],
            },
        ],
        "tools": [{"name": "order", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "max_tokens": 64,
        "stop_sequences": ["END"],
        "top_k": 4,
    }
    assert found.messages == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "I read 7 words."}],
            "finish_reason": "stop",
        }
    ]
    assert (found.finish_reasons, found.model, found.response_id) == (["stop"], "m-1", "msg_stub")
    assert found.usage == {"input_tokens": 10, "output_tokens": 4, "cache_read_tokens": 3}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(body=b"<html>no</html>", headers={"Content-Type": "text/html"}), "no_completion"),
        (Reply(body=b"{nope"), "no_completion"),
        (Reply(body={}), "no_completion"),
        (Reply(body={"type": "message", "role": "assistant", "content": []}), "no_completion"),
        (Reply(body=b'{"id": "x"', headers={"Content-Length": "1000"}, cut=9), "broken_off"),
        (
            Reply(400, {"type": "error", "error": {"type": "invalid", "message": "odd"}}),
            "http_400",
        ),
    ],
)
def test_what_anthropic_does_not_answer_is_told_apart_too(stub, reply, kind):
    stub.always(reply)

    found, pauses = call(request(ANTHROPIC, messages=MESSAGES, parameters={"max_tokens": 9}), anthropic(stub))

    assert isinstance(found, CallFailed)
    assert (found.kind, pauses) == (kind, [])
    assert ("odd" in str(found)) == (kind == "http_400")


def test_anthropic_that_is_overloaded_is_asked_again(stub):
    stub.then(Reply(529, {"type": "error", "error": {"message": "busy"}}, {"Retry-After": "2"}))

    found, pauses = call(request(ANTHROPIC, messages=MESSAGES, parameters={"max_tokens": 9}), anthropic(stub))

    assert isinstance(found, Answer)
    assert pauses == [2.0]


def test_a_provider_that_asks_for_a_pause_is_asked_again_after_it(stub):
    stub.then(refusal(429, "slow down", Retry_After="7"), refusal(503, "busy", Retry_After="0.25"))

    found, pauses = call(request(), provider(stub))

    assert isinstance(found, Answer)
    assert (found.attempts, pauses) == (3, [7.0, 0.25])
    assert stub.asked[0].body == stub.asked[2].body


def test_a_pause_may_be_asked_for_as_a_date(stub):
    stub.then(refusal(503, "busy", Retry_After=formatdate(time.time() + 30, usegmt=True)))

    found, (pause_s,) = call(request(), provider(stub))

    assert isinstance(found, Answer)
    assert 20 < pause_s <= 30


def test_without_such_a_wish_pauses_grow(stub):
    stub.then(refusal(500, "boom"), refusal(529, "overloaded"), refusal(502, "gateway"))

    found, pauses = call(request(), provider(stub))

    assert isinstance(found, Answer)
    assert pauses == [0.75, 1.5, 3.0]


def test_a_pause_that_is_too_long_is_not_made(stub):
    stub.always(refusal(429, "slow down", Retry_After="3600"))

    failed = failure(stub, max_retry_wait_s=60.0)

    assert failed.kind == "http_429"
    assert "slow down" in str(failed)
    assert "3600 s" in str(failed)
    assert "max_retry_wait_s" in str(failed)


def test_after_the_last_attempt_the_reason_is_the_providers(stub):
    stub.always(refusal(500, "boom"))

    failed = failure(stub, asked=3, max_attempts=3)

    assert failed.kind == "http_500"
    assert str(failed) == "acme answered 500: boom. It was asked 3 times (max_attempts)."


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_change_is_not_asked_again(stub, status):
    stub.always(refusal(status, f"no: {KEY} is not known"))

    failed = failure(stub)

    assert failed.kind == f"http_{status}"
    assert "no: [key] is not known" in str(failed)
    assert ("Check the key of [acme]" in str(failed)) == (status in {401, 403})


def test_money_that_is_spent_is_not_waited_for(stub):
    reply = refusal(429, "quota")
    stub.always(Reply(429, {"error": {**reply.body["error"], "code": "insufficient_quota"}}))

    assert failure(stub).kind == "http_429"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html>hello</html>", headers={"Content-Type": "text/html"}),
        Reply(body=b'data: {"id": "x"}\n\n', headers={"Content-Type": "text/event-stream"}),
        Reply(body=b"{nope"),
        Reply(body=b""),
        Reply(body={}),
        Reply(body=[1]),
        Reply(body={"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}),
        Reply(body={"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [{}]}),
        Reply(body={"id": "x", "created": 1, "model": "m", "choices": [{"message": "hi"}]}),
        Reply(
            body={
                "id": "x",
                "created": 1,
                "model": "m",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ""}}
                ],
            }
        ),
    ],
)
def test_garbage_is_no_answer(stub, reply):
    stub.always(reply)

    failed = failure(stub)

    assert failed.kind == "no_completion"
    assert "acme answered is" in str(failed)
    assert "iterable" not in str(failed)


def test_half_an_answer_is_none_and_is_not_paid_for_twice(stub):
    stub.always(Reply(body=b'{"id": "x", "choices": [', headers={"Content-Length": "1000"}, cut=20))

    failed = failure(stub)

    assert failed.kind == "broken_off"
    assert "may have been charged" in str(failed)


def test_a_provider_that_never_answers_is_given_up(stub):
    held = threading.Event()
    stub.always(Reply(held=held))
    try:
        failed = failure(stub, timeout_s=2.0)
    finally:
        held.set()

    assert failed.kind == "timeout"
    assert "within 2 s" in str(failed)


def test_a_provider_that_is_not_there_is_looked_for_again(stub):
    with provider_stub() as gone:
        base_url = gone.base_url

    found, pauses = call(request(), replace(provider(stub), base_url=base_url))

    assert isinstance(found, CallFailed)
    assert (found.kind, len(pauses)) == ("unreachable", 3)
    assert base_url in str(found)


def test_absurd_counts_are_not_taken(stub):
    counts = {"prompt_tokens": -1, "completion_tokens": 2**70, "total_tokens": 0}
    stub.always(lambda asked: Reply(body={**answered(asked).body, "usage": counts}))

    assert answer(request(), provider(stub)).usage == {}


def storm(stub: Stub, calls: int, **settings: Any) -> tuple[list[Answer | CallFailed], Caller, Clock]:
    """Many calls at once of one caller."""
    clock = Clock()
    caller = Caller(clock.sleep, spread=lambda: 0.5, now=clock.now)

    async def one() -> Answer | CallFailed:
        try:
            return await caller.call(request(), provider(stub, **settings))
        except CallFailed as failed:
            return failed

    async def run() -> list[Answer | CallFailed]:
        try:
            return await asyncio.gather(*(one() for _ in range(calls)))
        finally:
            await caller.close()

    return asyncio.run(run()), caller, clock


def test_a_refusal_for_now_is_heard_by_every_call_and_does_not_multiply(stub):
    stub.then(*[refusal(429, "slow down", Retry_After="5")] * 3)

    found, caller, clock = storm(stub, 20, concurrency=1)

    assert all(isinstance(each, Answer) for each in found)
    # Three refusals, three repetitions: nobody else asked while the provider wanted to be left alone.
    assert len(stub.asked) == 23
    assert clock.pauses == [5.0, 5.0, 5.0]
    counts = caller.paces["acme"].counts
    assert (counts.sent, counts.answered, counts.held_back, counts.waiting) == (23, 20, 3, 0)


def test_many_calls_under_way_that_are_refused_together_are_not_asked_again_together(stub):
    barrier = threading.Barrier(8)
    busy = refusal(429, "slow down", Retry_After="5")

    def refused_together(_: Any) -> Reply:
        barrier.wait(timeout=60)
        return busy

    stub.then(*[refused_together] * 8, busy)

    found, _, _ = storm(stub, 8)

    assert all(isinstance(each, Answer) for each in found)
    # Of the eight, one tried and was refused once more, before the others asked again.
    assert len(stub.asked) == 8 + 1 + 8


def test_a_pause_that_is_too_long_stops_the_calls_that_have_not_been_sent(stub):
    stub.always(refusal(429, "come back tomorrow", Retry_After="86400"))

    found, _, _ = storm(stub, 10, concurrency=1)

    kinds = sorted(each.kind for each in found if isinstance(each, CallFailed))
    assert kinds == ["http_429"] + ["paused"] * 9
    assert len(stub.asked) == 1
    assert all("come back tomorrow" in str(each) and KEY not in str(each) for each in found)


def test_limits_of_a_minute_are_kept_over_a_real_socket(stub):
    found, _, clock = storm(stub, 12, requests_per_minute=60)

    assert all(isinstance(each, Answer) for each in found)
    assert clock.now() == pytest.approx(11.0)


def test_tokens_that_may_be_written_count_until_the_answer_says_how_many_were(stub):
    # 64 may be written by max_tokens; 8 words are read and 4 written.
    _, _, clock = storm(stub, 3, tokens_per_minute=60, concurrency=1)

    assert clock.now() == pytest.approx(2 * 12.0)
