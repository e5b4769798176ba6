"""Capture turns any value into bounded JSON and says what it left out."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import hashlib
import json
import pathlib
import uuid
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import pydantic
import pytest

from loopgrid.capture import Losses, capture, text
from loopgrid.config import CaptureLimits

WIDE = CaptureLimits()
SMALL = CaptureLimits(
    max_content_bytes=20, max_depth=3, max_items=8, max_inline_bytes=4, max_repr_chars=10, max_losses=3
)


def captured(value: Any, limits: CaptureLimits = WIDE) -> tuple[Any, list[str]]:
    losses = Losses()
    written = capture(value, "output", limits, losses)
    return json.loads(written), losses.entries(100)


class Colour(enum.Enum):
    RED = "red"
    POINT = (1, 2)


@dataclass
class Ticket:
    kind: ClassVar[str] = "ticket"
    number: int
    opened: dt.date
    notes: list[str] = field(default_factory=list)


class Customer(pydantic.BaseModel):
    name: str
    since: dt.date


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped form is out there


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**62, 2**62),
        (1.5, 1.5),
        ("é\u0000", "é\u0000"),
        ([1, (2, [3])], [1, [2, [3]]]),
        ({"a": {"$b": 1, "c": 2}}, {"a": {"$b": 1, "c": 2}}),
        (Colour.RED, "red"),
        (Colour.POINT, [1, 2]),
        (Ticket(7, dt.date(2026, 1, 2), ["x"]), {"number": 7, "opened": "2026-01-02", "notes": ["x"]}),
        (Customer(name="Ada", since=dt.date(2026, 1, 2)), {"name": "Ada", "since": "2026-01-02"}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "2026-01-02T03:04:00+00:00"),
        (dt.timedelta(minutes=1), 60.0),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (deque([1, 2]), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (bytearray(b"a"), {"$bytes": "YQ=="}),
        (float("nan"), {"$double": "NaN"}),
        (float("-inf"), {"$double": "-Infinity"}),
        (2**70, {"$int": str(2**70)}),
        ({1: "a", "b": 2}, {"$map": [[1, "a"], ["b", 2]]}),
        ({"$bytes": "x"}, {"$map": [["$bytes", "x"]]}),
        ({"$omitted": 1, "a": 2}, {"$map": [["$omitted", 1], ["a", 2]]}),
        ({"": 1}, {"$map": [["", 1]]}),
    ],
)
def test_a_value_with_a_json_form_is_written_whole(value, expected):
    assert captured(value) == (expected, [])


def test_long_text_keeps_its_beginning_its_size_and_its_digest():
    long = "é" * 30
    digest = hashlib.sha256(long.encode()).hexdigest()

    written, losses = captured({"text": long, "after": "kept"}, SMALL)

    head = written["text"]["$truncated"]
    assert long.startswith(head["text"])
    assert (head["bytes"], head["sha256"]) == (60, digest)
    assert losses[0] == f"output.text:truncated:60:sha256={digest}"


def test_large_bytes_keep_their_size_and_digest():
    data = b"12345"
    digest = hashlib.sha256(data).hexdigest()

    assert captured(data, SMALL) == (
        {"$blob": {"bytes": 5, "sha256": digest}},
        [f"output:bytes_omitted:5:sha256={digest}"],
    )


def test_items_beyond_the_limit_are_counted():
    written, losses = captured(list(range(100)), SMALL)

    assert written[:-1] == list(range(len(written) - 1))
    assert written[-1] == {"$omitted": 100 - (len(written) - 1)}
    assert losses == [f"output:items_omitted:{100 - (len(written) - 1)}"]


def test_map_entries_beyond_the_limit_are_counted():
    written, losses = captured({f"k{number}": number for number in range(100)}, SMALL)

    assert written.pop("$omitted") == 100 - len(written)
    assert len(losses) == 1


def test_nesting_beyond_the_limit_is_named():
    assert captured([[[[1]]]], SMALL) == ([[[{"$omitted": "depth"}]]], ["output[0][0][0]:depth:list"])


def test_a_cycle_is_named_and_the_same_object_twice_is_none():
    shared = [1]
    loop: list[Any] = [shared, shared]
    loop.append(loop)

    assert captured(loop) == ([[1], [1], {"$omitted": "cycle"}], ["output[2]:cycle"])


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")


class HostileProperty:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no")

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __repr__(self):
        return "x" * 100


class HostileMap(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no")


class HostileEquality:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")


@pytest.mark.parametrize("kind", [Hostile, HostileProperty, HostileMap, HostileEquality])
def test_a_hostile_object_costs_its_own_value_only(kind):
    written, losses = captured({"bad": kind(), "good": [1]})

    assert written["good"] == [1]
    assert "$repr" in written["bad"]
    assert len(losses) == 1


def test_objects_are_shown_without_their_address():
    written, losses = captured(object())

    assert written == {"$repr": {"type": "object", "text": "<object object>"}}
    assert losses == ["output:repr:object"]


def test_a_program_being_interrupted_is_not_taken_for_a_hostile_object():
    class Interrupted:
        def __repr__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        captured(Interrupted())


def test_a_recursive_dump_ends():
    class Dumps:
        def model_dump(self, **_: Any) -> Any:
            return Dumps()

    written, losses = captured(Dumps())

    assert losses
    assert written


def test_lone_surrogates_are_replaced_so_that_the_text_is_unicode():
    written, losses = captured({"k\ud800": "\ud83d"})

    assert written == {"k?": "?"}
    assert losses == [
        "output[key]:replaced_characters",
        "output.k\ud800:replaced_characters".replace("\ud800", "?"),
    ]


def test_an_enormous_integer_is_not_spelt_out():
    assert captured(1 << 100_000) == (
        {"$repr": {"type": "int", "text": "100001 bits"}},
        ["output:repr:int of 100001 bits"],
    )


def test_a_text_fact_is_cut_at_a_character():
    losses = Losses()

    assert text("aé", "user.id", 2, losses) == "a"
    assert losses.entries(9)[0].startswith("user.id:truncated:3:sha256=")


def test_many_losses_are_counted_instead_of_listed():
    losses = Losses()
    for number in range(5):
        losses.note(f"input.{number}", "cycle")

    assert losses.entries(3) == ["input.0:cycle", "input.1:cycle", "input.2:cycle", "more:2"]
