"""Whatever was recorded of a model call, what is sent is that, whole and in order, or nothing at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loopgrid_query.replay import anthropic
from loopgrid_query.replay.request import ANTHROPIC, OPENAI, ModelRequest, request_of
from loopgrid_query.replay.unsendable import Unsendable

WORDS = st.text(min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
TEXT = st.builds(lambda said: {"type": "text", "content": said}, WORDS)
CALL = st.builds(
    lambda key, name, arguments: {"type": "tool_call", "id": key, "name": name, "arguments": arguments},
    WORDS, WORDS, st.dictionaries(WORDS, VALUES, max_size=3),
)  # fmt: skip
RESULT = st.builds(
    lambda key, found: {"type": "tool_call_response", "id": key, "response": found}, WORDS, VALUES
)
IMAGE = st.builds(
    lambda data: {"type": "blob", "mime_type": "image/png", "modality": "image", "content": data}, WORDS
)
ODD = st.sampled_from(
    [
        {"type": "reasoning", "content": "hm"},
        {"type": "file", "modality": "document", "file_id": "f1"},
        {"type": "uri", "modality": "image", "uri": "gs://bucket/cat.png"},
        {"type": "text", "content": "x", "cache_control": {"type": "ephemeral"}},
        {"type": "tool_call", "name": "f", "arguments": {}},
        {"type": "tool_call", "id": "c", "name": "f"},
        {"type": "weather", "content": "rain"},
    ]
)


def messages(
    parts: st.SearchStrategy[Any], role: str, *, min_size: int = 0, max_size: int
) -> st.SearchStrategy[dict[str, Any]]:
    said = st.lists(parts, min_size=min_size, max_size=max_size)
    return st.builds(lambda told: {"role": role, "parts": told}, said)


GOOD = st.one_of(
    messages(TEXT, "system", min_size=1, max_size=2),
    messages(TEXT | IMAGE, "user", min_size=1, max_size=3),
    messages(TEXT | CALL, "assistant", min_size=1, max_size=3),
    messages(RESULT, "tool", min_size=1, max_size=3),
    st.builds(
        lambda results, texts: {"role": "user", "parts": results + texts},
        st.lists(RESULT, min_size=1, max_size=2),
        st.lists(TEXT, max_size=2),
    ),
)
ANY = st.one_of(
    GOOD,
    messages(st.one_of(TEXT, CALL, RESULT, IMAGE, ODD), "user", max_size=3),
    messages(st.one_of(TEXT, CALL, RESULT, ODD), "critic", max_size=2),
    messages(st.one_of(ODD, CALL), "assistant", min_size=1, max_size=2),
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "max_tokens": st.integers(1, 999),
        "stop_sequences": st.lists(WORDS, max_size=2),
        "seed": st.integers(0, 99),
        "response_format": st.just({"type": "json_object"}),
        "stream": st.booleans(),
        "weird": VALUES,
    },
)


def decision(told: Any, parameters: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "input": told,
        "output": None,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "lossiness": None,
        "prompt": {"name": None, "version": None, "template": None, "variables": None},
        "model": {"provider": "acme", "name": "m-1", "parameters": parameters},
        **more,
    }


def attempted(
    record: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, protocol: str = OPENAI
) -> ModelRequest | None:
    """The request; None where it is refused."""
    try:
        return request_of(record, overrides or {}, protocol)
    except Unsendable:
        return None


def said(sent: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """A message of the request in the words of the record: what it says, and nothing about the form."""
    if sent["role"] == "tool":
        return [("result", sent["tool_call_id"], sent["content"])]
    content = sent["content"]
    whole: list[dict[str, Any]] = [{"type": "text", "text": content}]
    parts = whole if isinstance(content, str) else content or []
    found: list[tuple[Any, ...]] = [
        ("text", part["text"]) if part["type"] == "text" else ("image", part["image_url"]["url"])
        for part in parts
    ]
    for call in sent.get("tool_calls", ()):
        assert call["type"] == "function"
        found.append(
            ("call", call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        )
    return found


def recorded(message: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    calls: list[tuple[Any, ...]] = []
    for part in message["parts"]:
        match part["type"]:
            case "text":
                found.append(("text", part["content"]))
            case "blob":
                found.append(("image", f"data:{part['mime_type']};base64,{part['content']}"))
            case "tool_call":
                calls.append(("call", part["id"], part["name"], part["arguments"]))
            case "tool_call_response":
                found.append(("result", part["id"], part["response"]))
    return found + calls


def same(sent: list[tuple[Any, ...]], kept: list[tuple[Any, ...]]) -> bool:
    def plain(one: tuple[Any, ...]) -> tuple[Any, ...]:
        # A tool's result that is no text goes out as its JSON.
        if one[0] != "result" or isinstance(one[2], str):
            return one
        return (*one[:2], json.dumps(one[2], ensure_ascii=False))

    return sent == [plain(one) for one in kept]


@given(st.lists(GOOD, min_size=1, max_size=5))
def test_every_message_of_the_record_is_in_the_request_in_order_and_nothing_else(told):
    request = attempted(decision(told))

    assert request is not None
    assert same(
        [piece for sent in request.messages for piece in said(sent)],
        [piece for message in told for piece in recorded(message)],
    )
    assert [sent["role"] for sent in request.messages if sent["role"] in {"system", "assistant"}] == [
        message["role"] for message in told if message["role"] in {"system", "assistant"}
    ]


@given(st.lists(ANY, min_size=1, max_size=5))
def test_what_is_not_refused_is_sent_whole(told):
    request = attempted(decision(told))

    if request is not None:
        assert same(
            [piece for sent in request.messages for piece in said(sent)],
            [piece for message in told for piece in recorded(message)],
        )


@given(st.lists(ANY, min_size=1, max_size=4), st.sampled_from([OPENAI, ANTHROPIC]), PARAMETERS)
def test_no_member_of_a_request_is_invented(told, protocol, parameters):
    request = attempted(decision(told, parameters), protocol=protocol)

    if request is not None:
        spelled = {"stop_sequences": "stop"}
        stated = {spelled.get(name, name): value for name, value in parameters.items() if value is not None}
        stated.pop("stream", None)
        assert request.parameters == stated
        assert (request.provider, request.model) == ("acme", "m-1")


def said_to_anthropic(members: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Everything that a request in Anthropic's form says, in order."""
    system = members.get("system", [])
    contents = [system] if isinstance(system, str) else [[part] for part in system]
    contents += [message["content"] for message in members["messages"]]
    found: list[tuple[Any, ...]] = []
    for content in contents:
        whole: list[dict[str, Any]] = [{"type": "text", "text": content}]
        for block in whole if isinstance(content, str) else content:
            match block["type"]:
                case "text":
                    found.append(("text", block["text"]))
                case "image":
                    source = block["source"]
                    found.append(("image", f"data:{source['media_type']};base64,{source['data']}"))
                case "tool_use":
                    found.append(("call", block["id"], block["name"], block["input"]))
                case "tool_result":
                    found.append(("result", block["tool_use_id"], block["content"]))
    return found


@given(st.lists(GOOD, min_size=1, max_size=5))
def test_anthropic_is_told_the_same(told):
    request = attempted(decision(told, {"max_tokens": 9}), protocol=ANTHROPIC)

    if request is not None:
        members = anthropic.members(request.messages, request.tools, request.parameters)
        kept = [piece for message in told for piece in recorded(message)]
        assert same(said_to_anthropic(members), kept)
        assert members.keys() <= {"system", "messages", "tools", "max_tokens"}


@given(VALUES)
def test_an_input_that_is_no_conversation_is_refused(told):
    assert attempted(decision(told)) is None


@given(st.lists(GOOD, min_size=1, max_size=4), WORDS, WORDS)
def test_another_prompt_changes_its_own_text_and_nothing_else(told, name, value):
    template = "⟦You decide on {topic}.⟧"
    prompt = {"name": "p", "version": "1", "template": template, "variables": {"topic": name}}
    first = {"role": "system", "parts": [{"type": "text", "content": f"⟦You decide on {name}.⟧"}]}
    record = decision([first, *told], prompt=prompt)

    request = attempted(record, {"prompt": {"template": "⟦Judge {topic}!⟧", "variables": {"topic": value}}})

    if any("⟦" in str(message) for message in told):
        return
    assert request is not None
    assert request.messages[0] == {"role": "system", "content": f"⟦Judge {value}!⟧"}
    assert list(request.told[1:]) == told
