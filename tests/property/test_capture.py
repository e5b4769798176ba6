"""Capture, for any value: valid JSON, within its bounds, and readable again where nothing was left out."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import json
import math
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from loopgrid.capture import Losses, capture
from loopgrid.config import CaptureLimits
from loopgrid.restore import read_back


class Level(enum.Enum):
    LOW = 1
    PAIR = (1, "x")


@dataclass
class Note:
    text: str
    inner: Any


class Odd:
    """An object whose code fails in one of several ways."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error("odd")


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
KEYS = (
    st.text(max_size=5)
    | st.sampled_from(["$bytes", "$map", "$omitted", "$repr"])
    | st.integers()
    | st.booleans()
)
READABLE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
ANYTHING = st.recursive(
    SCALARS
    | st.text(st.characters(codec=None), max_size=10)
    | st.sampled_from([Level.LOW, Level.PAIR, Ellipsis, int, len, iter([1])])
    | st.builds(Odd, st.sampled_from([ValueError, RecursionError]))
    | st.datetimes()
    | st.timedeltas()
    | st.builds(dt.date.today),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS | st.binary(max_size=3), inner, max_size=4)
        | st.builds(Note, st.text(), inner)
    ),
    max_leaves=20,
)
TIGHT = CaptureLimits(
    max_content_bytes=50, max_depth=3, max_items=10, max_inline_bytes=4, max_repr_chars=10, max_losses=5
)


def same(one: Any, other: Any) -> bool:
    """Equality that tells NaN from nothing, True from 1 and 1 from 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    return bool(one == other)


def is_strict_json(text: str) -> Any:
    """Read it as a strict reader would: no NaN, and Unicode that can be encoded."""
    text.encode()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@given(READABLE)
def test_what_lost_nothing_is_read_back_exactly(value):
    losses = Losses()
    written = capture(value, "output", CaptureLimits(), losses)

    assert losses.entries(9) == []
    assert same(read_back(is_strict_json(written), "value"), value)


@given(ANYTHING)
def test_any_value_becomes_strict_json(value):
    losses = Losses()
    is_strict_json(capture(value, "output", CaptureLimits(), losses))

    assert all(entry.startswith("output") for entry in losses.entries(1000))


@given(ANYTHING)
@settings(max_examples=200)
def test_whatever_the_limits_the_result_is_strict_json_and_small(value):
    losses = Losses()
    written = capture(value, "output", TIGHT, losses)

    is_strict_json(written)
    # Escaping turns one byte into six at most; a value left out costs its mark, its digest and its name.
    assert len(written) < 6 * TIGHT.max_content_bytes + TIGHT.max_items * 300
    assert len(losses.entries(TIGHT.max_losses)) <= TIGHT.max_losses + 1


@given(READABLE)
def test_the_value_itself_is_not_changed(value):
    before = copy.deepcopy(value)
    capture(value, "output", TIGHT, Losses())

    assert same(value, before)


@given(st.sets(st.integers() | st.text(max_size=3)))
def test_the_same_set_is_always_written_the_same(value):
    def once(items: Any) -> str:
        return capture(items, "output", CaptureLimits(), Losses())

    other: set[int | str] = set()
    other.update(sorted(value, key=repr))

    assert once(value) == once(other)
