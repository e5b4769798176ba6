"""The quick look at messages accepts nothing that the thorough one refuses."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from loopgrid_collector.dialects import messages
from loopgrid_collector.dialects.parsers import UnreadableError, read_json

text = st.text(max_size=6)
value = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
kind = st.sampled_from(["text", "tool_call", "tool_call_response", "reasoning", "x"])
part = st.fixed_dictionaries({"type": kind}, optional={"content": value, "extra": value}) | value
message = (
    st.fixed_dictionaries(
        {"role": text | value, "parts": st.lists(part, max_size=2)},
        optional={"name": value, "finish_reason": value, "other": value},
    )
    | value
)


@given(st.lists(message, max_size=3))
def test_plain_messages_are_canonical(found: object) -> None:
    written = json.dumps(found)

    if messages.are_plain_messages(written):
        assert messages.is_canonical_messages(read_json(written))
    if messages.are_plain_parts(written):
        assert messages.is_canonical_parts(read_json(written))


@given(text)
def test_what_is_no_json_is_not_plain(written: str) -> None:
    plain = messages.are_plain_messages(written) or messages.are_plain_parts(written)
    try:
        read_json(written)
    except UnreadableError:
        assert not plain


def test_ordinary_messages_are_plain() -> None:
    assert messages.are_plain_messages('[{"role":"user","parts":[{"type":"text","content":"hi"}]}]')
    assert messages.are_plain_parts('[{"type":"text","content":"hi"}]')
    assert not messages.are_plain_messages('[{"role":"user","parts":[]}]')
    assert not messages.are_plain_parts("[]")
