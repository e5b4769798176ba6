"""Cutting a request up by hand gives what the protobuf decoder makes of it, or leaves it to the decoder."""

from __future__ import annotations

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
