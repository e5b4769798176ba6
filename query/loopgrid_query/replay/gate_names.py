"""What a rule can speak of: the names, which of them are shares and which counts, and their values. Pure.

A value is a range: what failed or cannot be compared might have become anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Final

from loopgrid_query.report_models import Share, Statistics


class Unit(Enum):
    """What a value is measured in; the text is what a message calls it."""

    SHARE = "a share"
    COUNT = "a count"
    DIFFERENCE = "a difference of shares"
    PROBABILITY = "a probability"
    FLAG = "either so or not"


@dataclass(frozen=True, slots=True)
class Value:
    """What a name comes to.

    Attributes:
        low: the least it can be; None where it is not defined.
        high: the most it can be.
        said: the same in words, for a person: "80% (8 of 10 that were wrong)".
        why: why it is not one number, or not defined.
    """

    low: Fraction | None
    high: Fraction | None
    said: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """One name of the grammar.

    Attributes:
        unit: what it means where it stands alone.
        among: what it is a share of, as in "8 of 10 that were wrong"; None where it is a share of nothing.
        meaning: one line, for the documentation.
    """

    unit: Unit
    among: str | None
    meaning: str


_WRONG: Final = "that were wrong"
_RIGHT: Final = "that were right"
_ALL: Final = "items"

NAMES: Final[Mapping[str, Name]] = {
    "fixed": Name(Unit.SHARE, _WRONG, "the decision was wrong, its replay equals the correction"),
    "still_wrong": Name(Unit.SHARE, _WRONG, "the decision was wrong, and so is its replay"),
    "newly_broken": Name(Unit.COUNT, _RIGHT, "the decision equals the correction, its replay does not"),
    "changed": Name(Unit.COUNT, _ALL, "another output, where no correction says which is right"),
    "unchanged": Name(Unit.COUNT, _ALL, "the same output, or both equal the correction"),
    "not_comparable": Name(
        Unit.COUNT, _ALL, "a part of an output is not on record, or the replay has not run"
    ),
    "failed": Name(Unit.COUNT, _ALL, "the replay failed, was refused or cancelled"),
    "items": Name(Unit.COUNT, None, "decisions that were replayed"),
    "wrong": Name(Unit.COUNT, None, "decisions that were wrong before"),
    "right": Name(Unit.COUNT, None, "decisions that were right before"),
    "gain": Name(Unit.DIFFERENCE, None, "share that is right with the change, less that without it"),
    "noise": Name(Unit.SHARE, "repeats", "repeats of the control arm with another output"),
    "flipped": Name(
        Unit.SHARE,
        "repeats with a correction",
        "repeats of the control arm that went from right to wrong or from wrong to right",
    ),
    "p_value": Name(Unit.PROBABILITY, None, "exact McNemar test, two-sided"),
    "better": Name(Unit.FLAG, None, "more gained than lost, and that is significant"),
    "worse": Name(Unit.FLAG, None, "more lost than gained, and that is significant"),
}
"""Every name. What is about the decisions that were wrong is a share, other outcomes are counts."""

FORMS: Final = ("share", "count", "low", "high")
"""Functions of a name: its share, its count, and the lower and upper end of its interval."""

_NO_CONTROL: Final = "there is no control arm"


def unit_of(name: str, form: str | None) -> Unit | None:
    """What a name is measured in, in a form; None where it does not have that form."""
    known = NAMES[name]
    if form is None:
        return known.unit
    if form in {"low", "high"}:
        interval = known.among is not None or known.unit is Unit.DIFFERENCE
        return (Unit.DIFFERENCE if known.unit is Unit.DIFFERENCE else Unit.SHARE) if interval else None
    if form == "share":
        return Unit.SHARE if known.among is not None else None
    return Unit.COUNT if known.among is not None or known.unit is Unit.COUNT else None


def value_of(name: str, form: str | None, found: Statistics) -> Value:
    """What a name comes to, in a form that it has.

    Args:
        name: one of `NAMES`.
        form: one of `FORMS`, or None for what the name means alone.
        found: the numbers.
    """
    unit = unit_of(name, form)
    share = _share(name, found)
    if share is not None:
        return _interval_end(name, form, share) if form in {"low", "high"} else _of_share(name, unit, share)
    if NAMES[name].among is not None:
        return Value(None, None, "not known", _NO_CONTROL)
    if name == "gain":
        return _gain(form, found)
    if name == "p_value":
        return _p_value(found)
    if name in {"better", "worse"}:
        return _flag(name, found)
    return _size(name, found)


def percent(number: Fraction) -> str:
    """A share as a person reads it, never rounded to a whole that it is not."""
    shown = f"{float(number) * 100:.4g}"
    if shown in {"100", "0", "-100"} and number not in {0, 1, -1}:
        shown = f"{float(number) * 100:.8g}"
    return f"{shown}%"


def _share(name: str, found: Statistics) -> Share | None:
    if name == "noise":
        return None if found.noise is None else found.noise.differing
    if name == "flipped":
        return None if found.noise is None else found.noise.flipped
    share: Share | None = getattr(found.outcomes, name, None)
    return share


def _of_share(name: str, unit: Unit | None, share: Share) -> Value:
    missing = share.possible - share.count
    why = f"{missing} failed or cannot be compared" if missing else ""
    if unit is Unit.COUNT:
        return Value(Fraction(share.count), Fraction(share.possible), _of(name, share), why)
    if share.of == 0:
        return Value(None, None, *_none(name))
    low, high = Fraction(share.count, share.of), Fraction(share.possible, max(1, share.of_least))
    if low == high:
        return Value(low, high, f"{percent(low)} ({_of(name, share)})")
    away = share.of - share.of_least
    if away and not missing:
        why = f"of {away} nobody can say whether they are among those"
    return Value(low, high, f"{percent(low)} to {percent(high)} ({_of(name, share)})", why)


def _of(name: str, share: Share) -> str:
    count = str(share.count) if share.count == share.possible else f"{share.count} to {share.possible}"
    return f"{count} of {share.of} {NAMES[name].among}"


def _none(name: str) -> tuple[str, str]:
    among = str(NAMES[name].among)
    return "not known", f"there are none {among}" if among.startswith("that ") else f"there are no {among}"


def _interval_end(name: str, form: str | None, share: Share) -> Value:
    end = share.low if form == "low" else share.high
    if end is None:
        return Value(None, None, *_none(name))
    number = Fraction(end)
    return Value(number, number, f"{percent(number)} ({_of(name, share)})")


def _gain(form: str | None, found: Statistics) -> Value:
    gain = found.paired.gain
    if gain is None:
        return Value(None, None, "not known", "no decision has a correction")
    if form is None:
        low, high = Fraction(gain.gain), Fraction(gain.possible)
        open_pairs = found.paired.open
        said = percent(low) if low == high else f"{percent(low)} to {percent(high)}"
        why = f"{open_pairs} pairs failed or cannot be compared" if low != high else ""
        return Value(low, high, f"{said} (of {found.paired.pairs} pairs)", why)
    end = gain.low if form == "low" else gain.high
    if end is None:
        return Value(None, None, "not known", (gain.why_no_interval or "there is no interval").rstrip("."))
    return Value(Fraction(end), Fraction(end), percent(Fraction(end)))


def _p_value(found: Statistics) -> Value:
    p_value = found.paired.p_value
    if p_value is None:
        return Value(None, None, "not known", "no decision has a correction")
    return Value(Fraction(p_value), Fraction(p_value), f"{p_value:.3g}")


def _flag(name: str, found: Statistics) -> Value:
    """One where it is so, zero where it is not; open while there is not enough data to say."""
    verdict, why = found.conclusion.verdict, found.conclusion.why.rstrip(".")
    if verdict == "not_enough_data":
        return Value(Fraction(0), Fraction(1), "not enough data", why)
    so = Fraction(int(verdict == name))
    return Value(so, so, verdict.replace("_", " "), why)


def _size(name: str, found: Statistics) -> Value:
    counted = found.counted
    if name == "items":
        return Value(Fraction(counted.items), Fraction(counted.items), str(counted.items))
    count = counted.were_wrong if name == "wrong" else counted.were_right
    most = count + counted.undecided
    said = str(count) if most == count else f"{count} to {most}"
    why = f"of {counted.undecided} decisions nobody can say whether they were right" if most > count else ""
    return Value(Fraction(count), Fraction(most), said, why)
