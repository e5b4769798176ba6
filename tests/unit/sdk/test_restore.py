"""An argument comes back from its record exactly as it was, or not at all."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import inspect
import json
import pathlib
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import pydantic
import pytest

from loopgrid import Model, Prompt
from loopgrid.capture import Losses, capture
from loopgrid.config import CaptureLimits
from loopgrid.errors import NotReplayable
from loopgrid.restore import restore_argument

Text = TypeVar("Text", bound=str)
Euros = NewType("Euros", decimal.Decimal)


class Colour(enum.Enum):
    RED = "red"
    POINT = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Row(TypedDict):
    when: dt.date


class Point(NamedTuple):
    x: int
    y: dt.date


@dataclass(frozen=True)
class Address:
    city: str


@dataclass
class Customer:
    name: str
    since: dt.datetime
    colour: Colour | None
    addresses: list[Address]
    tags: frozenset[str] = frozenset()
    initial: str = field(init=False)

    def __post_init__(self):
        self.initial = self.name[:1]


class Order(pydantic.BaseModel):
    number: int
    placed: dt.date


CUSTOMER = Customer(
    "Ada", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), Colour.POINT, [Address("Bern")], frozenset("ab")
)


def restored(written: Any, hint: Any) -> Any:
    parameter = inspect.Parameter("value", inspect.Parameter.KEYWORD_ONLY)
    return restore_argument(written, parameter, hint)


def recorded(value: Any) -> Any:
    losses = Losses()
    written = json.loads(capture(value, "input", CaptureLimits(), losses))
    assert losses.entries(9) == []
    return written


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (None, None),
        ("a", str),
        (True, bool),
        (3, int),
        (3, float),
        (2.5, float),
        ({"a": [1, None]}, dict),
        ({"a": [1, None]}, dict[str, Any]),
        ([1, "a"], inspect.Parameter.empty),
        (b"\xff", bytes),
        (bytearray(b"a"), bytearray),
        (float("inf"), float),
        (2**80, int),
        ({1: "a", (1, 2): "b"}, Any),
        ({1: dt.date(2026, 1, 2)}, dict[int, dt.date]),
        ((1, "a"), tuple[int, str]),
        ((1, 2, 3), tuple[int, ...]),
        ((), tuple[()]),
        ((1, 2), tuple),
        ([dt.date(2026, 1, 2)], Sequence[dt.date]),
        (deque([1]), deque[int]),
        ({1, 2}, set[int]),
        ({1, 2}, AbstractSet[int]),
        (frozenset({Level.LOW}), frozenset[Level]),
        ({"a": 1}, Mapping[str, int]),
        (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), dt.datetime),
        (dt.time(3, 4), dt.time),
        (dt.timedelta(days=1, microseconds=1), dt.timedelta),
        (decimal.Decimal("1.10"), decimal.Decimal),
        (decimal.Decimal("1.10"), Euros),
        (uuid.UUID(int=5), uuid.UUID),
        (pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath),
        (Colour.RED, Colour),
        (Colour.POINT, Colour),
        (Level.LOW, Level),
        (None, Optional[Colour]),  # noqa: UP045 - the old spelling is out there
        (Colour.RED, Union[None, Colour]),  # noqa: UP007
        (Address("Bern"), Address | str),
        ("Bern", Address | str),
        ("a", Literal["a", 1]),
        (1, Literal["a", 1]),
        ("a", Annotated[str, "a note"]),
        ("a", Text),
        ({"when": dt.date(2026, 1, 2)}, Row),
        (Point(1, dt.date(2026, 1, 2)), Point),
        (CUSTOMER, Customer),
        ([CUSTOMER, None], list[Customer | None]),
        (Order(number=1, placed=dt.date(2026, 1, 2)), Order),
        (Prompt("p", version="1", template="{x}"), Prompt),
        (Model("openai", "gpt", temperature=0.2), Model),
    ],
)
def test_a_value_comes_back_as_it_was(value, hint):
    back = restored(recorded(value), hint)

    assert back == value
    assert type(back) is type(value)


def test_a_live_object_of_the_hinted_class_is_taken_as_it_is():
    assert restored(CUSTOMER, Customer) is CUSTOMER


@pytest.mark.parametrize(
    ("written", "hint", "said"),
    [
        ("a", int, "its hint says int"),
        (1, str, "its hint says str"),
        ("x", dt.date, "is no date"),
        (1, dt.date, "needs a str"),
        ("x", decimal.Decimal, "is no Decimal"),
        ("blue", Colour, "Colour has 'red', (1, 2)"),
        ("b", Literal["a"], "its hint allows 'a'"),
        ([1], tuple[int, int], "has 1 items, its hint wants 2"),
        ({"name": "Ada"}, Customer, "Customer"),
        ({"city": "Bern", "zip": 1}, Address, "does not have any more: zip"),
        ({"number": "x", "placed": "2026-01-02"}, Order, "refuses the recorded value"),
        ({"name": "p"}, Prompt, "no recorded Prompt"),
        ("x", object.__class__, "cannot be restored from a record"),
        ({"a": 1}, Exception, "cannot be restored from a record"),
        ("2026-01-02", str | dt.date, "can be str or date by its hint"),
        ({"$repr": {"type": "x", "text": ""}}, Any, "was recorded incompletely"),
        ({"$truncated": {"text": "x", "bytes": 9, "sha256": "0"}}, str, "was recorded incompletely"),
        ([{"$omitted": 3}], list[int], "was recorded incompletely"),
        ({"a": 1, "$omitted": 3}, dict[str, int], "was recorded incompletely"),
        ({"$bytes": "*"}, bytes, "malformed $bytes"),
        ({"$map": [[[1], 2], 3]}, Any, "malformed $map"),
    ],
)
def test_what_cannot_be_restored_is_refused_by_the_arguments_name(written, hint, said):
    with pytest.raises(NotReplayable) as refused:
        restored(written, hint)

    assert refused.value.message.startswith("argument 'value'")
    assert said in refused.value.message


def test_a_field_is_named_in_its_class():
    with pytest.raises(NotReplayable, match="argument 'value', field 'addresses', field 'city'"):
        restored({**recorded(CUSTOMER), "addresses": [{"city": 1}]}, Customer)
