"""Cutting a request up by hand gives what the protobuf decoder makes of it, or leaves it to the decoder."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopgrid_collector.errors import Undecodable
from loopgrid_collector.otlp import envelope


def number(value: int) -> bytes:
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def field(tag_number: int, payload: bytes) -> bytes:
    return number(tag_number << 3 | 2) + number(len(payload)) + payload


text = st.text(max_size=5).map(str.encode)
# What a newer sender may add, and what a strange one may: numbers, fixed widths, groups, large field numbers.
foreign = st.one_of(
    st.tuples(st.integers(1, 300), st.integers(0, 2**64 - 1)).map(
        lambda pair: number(pair[0] << 3) + number(pair[1])
    ),
    st.tuples(st.integers(1, 300), st.binary(min_size=8, max_size=8)).map(
        lambda pair: number(pair[0] << 3 | 1) + pair[1]
    ),
    st.tuples(st.integers(1, 300), st.binary(min_size=4, max_size=4)).map(
        lambda pair: number(pair[0] << 3 | 5) + pair[1]
    ),
    st.tuples(st.integers(4, 300), st.binary(max_size=4)).map(lambda pair: field(*pair)),
    st.tuples(st.integers(4, 300), st.binary(max_size=3), st.integers(4, 300)).map(
        lambda parts: number(parts[0] << 3 | 3) + field(9, parts[1]) + number(parts[2] << 3 | 4)
    ),
    st.integers(4, 300).map(lambda name: number(name << 3 | 3) + field(1, b"x") + number(name << 3 | 4)),
    st.binary(max_size=3),
)


def message(*fields: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.one_of(*fields), max_size=5).map(b"".join)


def one(tag_number: int, payload: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return payload.map(lambda inner: field(tag_number, inner))


item = st.binary(max_size=200)
scope = message(one(1, st.binary(max_size=4)), one(2, item), one(2, item), one(3, text), foreign)
resource = message(one(1, st.binary(max_size=4)), one(2, scope), one(3, text), foreign)
request = message(one(1, resource), one(1, resource), foreign)


def test_what_stands_in_a_group_does_not_keep_the_items_after_it_from_being_counted() -> None:
    group = number(5 << 3 | 3) + field(1, b"") + number(5 << 3 | 4)
    bomb = field(1, field(2, group + field(2, b"") * (envelope.MAX_ITEMS + 1)))

    with pytest.raises(Undecodable, match="Send smaller batches"):
        envelope.cut([bomb])


@given(st.lists(request, min_size=1, max_size=3))
@example([field(1, field(2, field(2, b"a") + field(1, b"b") + field(2, b"c")) + field(1, b"d"))])
@example([b"\x0a\x7f"])
@example([field(1, b"\x12\x05a")])
def test_both_ways_of_cutting_agree(bodies: list[bytes]) -> None:
    try:
        wanted = envelope._from_messages(bodies)
    except Undecodable:
        wanted = None

    regular = all(envelope._Walk(body).regular for body in bodies)
    if not regular:
        return
    assert wanted is not None
    found = envelope._from_walks([envelope._Walk(body) for body in bodies])
    assert found.items.to_pylist() == wanted.items.to_pylist()
    assert found.request.tolist() == wanted.request.tolist()
    assert found.scope.tolist() == wanted.scope.tolist()
    assert found.scopes == wanted.scopes
    assert found.resources == wanted.resources
