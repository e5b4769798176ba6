"""When two outputs count as equal: the rule, how it is written, and what it says. Pure.

A rule is a JSON object, or one of the names in ``NAMED``. It is the same in the API, the client and the
command line::

    {
        "text": "normalised",
        "ignore_case": true,
        "fields": ["/action", "/amount"],
        "absolute": 0.01,
        "relative": 1e-6,
    }
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from loopgrid_query.errors import FieldError, Invalid
from loopgrid_query.nearest import nearest

MAX_FIELDS: Final = 100
"""JSON pointers in one rule."""
MAX_POINTER_CHARS: Final = 1000
"""Characters of one JSON pointer."""
MAX_RULE_CHARS: Final = 20_000
"""Characters of a rule that is written as text."""

MAX_TOLERANCE: Final = 1e300
"""The largest tolerance between two numbers, in their own unit."""

ABSENT: Final = object()
"""In place of what a side does not have. JSON null is a value like any other."""

NAMED: Final[Mapping[str, Mapping[str, Any]]] = {"exact": {}, "normalised": {"text": "normalised"}}
_MEMBERS: Final = ("text", "ignore_case", "fields", "absolute", "relative")
_FIELD: Final = "equality"


@dataclass(frozen=True, slots=True)
class Equality:
    """A rule by which two JSON values are equal. The default is exact: the same JSON value.

    The order of an object's members does not matter, nor does 1 or 1.0; true is not 1, null is not absent.

    Attributes:
        normalised: texts count after Unicode NFC, with runs of white space as one blank and none at the ends.
        ignore_case: texts count without upper and lower case.
        fields: JSON pointers (RFC 6901) of what counts; everything where there is none.
        absolute: by how much two numbers may differ.
        relative: by which share of the larger one two numbers may differ.
    """

    normalised: bool = False
    ignore_case: bool = False
    fields: tuple[str, ...] = ()
    absolute: float = 0
    relative: float = 0

    def written(self) -> dict[str, Any]:
        """The rule as JSON object, as ``parse`` reads it."""
        written: dict[str, Any] = {"text": "normalised" if self.normalised else "exact"}
        if self.ignore_case:
            written["ignore_case"] = True
        if self.fields:
            written["fields"] = list(self.fields)
        written |= {name: value for name in ("absolute", "relative") if (value := getattr(self, name))}
        return written

    def equal(self, one: Any, other: Any) -> bool:
        """Whether two values are equal by this rule; what only one of them has is not."""
        if not self.fields:
            return self._same(one, other)
        return all(self._same(at(one, field), at(other, field)) for field in self.fields)

    def _same(self, one: Any, other: Any) -> bool:
        pairs = [(one, other)]
        while pairs:
            left, right = pairs.pop()
            if isinstance(left, dict) and isinstance(right, dict):
                if left.keys() != right.keys():
                    return False
                pairs.extend((left[name], right[name]) for name in left)
            elif isinstance(left, list) and isinstance(right, list):
                if len(left) != len(right):
                    return False
                pairs.extend(zip(left, right, strict=True))
            elif not self._same_leaf(left, right):
                return False
        return True

    def _same_leaf(self, left: Any, right: Any) -> bool:
        if isinstance(left, bool) is not isinstance(right, bool):
            return False
        if left is right or left == right:
            return True
        if isinstance(left, str) and isinstance(right, str):
            return self._text(left) == self._text(right)
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        return numbers and not isinstance(left, bool) and self._close(left, right)

    def _text(self, text: str) -> str:
        if self.ignore_case:
            text = text.casefold()
        if self.normalised:
            text = " ".join(unicodedata.normalize("NFC", text).split())
        return text

    def _close(self, left: float, right: float) -> bool:
        if not (self.absolute or self.relative) or not (_finite(left) and _finite(right)):
            return False
        # As they are written: 10.03 and 10.02 are 0.01 apart, which they are not in binary.
        one, other = _exactly(left), _exactly(right)
        allowed = max(_exactly(self.absolute), _exactly(self.relative) * max(abs(one), abs(other)))
        return abs(one - other) <= allowed


EXACT: Final = Equality()


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values say the same: order of members and 1 or 1.0 do not matter, true is not 1."""
    return EXACT.equal(one, other)


def at(value: Any, pointer: str) -> Any:
    """What stands at a JSON pointer, or ``ABSENT``."""
    here = value
    for step in _steps(pointer):
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and step.isascii() and step.isdigit() and str(int(step)) == step:
            if int(step) >= len(here):
                return ABSENT
            here = here[int(step)]
        else:
            return ABSENT
    return here


def pointer(steps: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a place; the empty text is the whole."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def parse(rule: Any) -> Equality:
    """The rule that a client means.

    Args:
        rule: None (exact), a name in ``NAMED``, a JSON object, or its text.

    Raises:
        Invalid: it is none; the message names the member and the nearest name.
    """
    if rule is None:
        return EXACT
    if isinstance(rule, str):
        rule = _from_text(rule)
    if not isinstance(rule, Mapping):
        raise _invalid("", 'must be "exact", "normalised" or a JSON object')
    for name in rule:
        if name not in _MEMBERS:
            known = ", ".join(_MEMBERS)
            raise Invalid.of(
                [
                    FieldError(
                        f"{_FIELD}.{name}",
                        f"there is no such member; there are {known}",
                        nearest(str(name), _MEMBERS),
                    )
                ]
            )
    return Equality(
        normalised=_text_form(rule.get("text", "exact")),
        ignore_case=_switch(rule.get("ignore_case", False)),
        fields=_fields(rule.get("fields", [])),
        absolute=_tolerance("absolute", rule.get("absolute", 0)),
        relative=_tolerance("relative", rule.get("relative", 0)),
    )


def _from_text(text: str) -> Any:
    if text in NAMED:
        return NAMED[text]
    if not text.lstrip().startswith("{"):
        close = nearest(text[:MAX_POINTER_CHARS], NAMED)
        raise Invalid.of([FieldError(_FIELD, 'must be "exact", "normalised" or a JSON object', close)])
    if len(text) > MAX_RULE_CHARS:
        raise _invalid("", f"must have at most {MAX_RULE_CHARS} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid("", "is no JSON object") from error


def _text_form(value: Any) -> bool:
    if value not in {"exact", "normalised"} if isinstance(value, str) else True:
        raise _invalid(".text", 'must be "exact" or "normalised"')
    return bool(value == "normalised")


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _invalid(".ignore_case", "must be true or false")
    return value


def _fields(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(field, str) for field in value):
        raise _invalid(".fields", 'must be a list of JSON pointers, as in ["/action"]')
    if len(value) > MAX_FIELDS:
        raise _invalid(".fields", f"must have at most {MAX_FIELDS} entries")
    for field in value:
        if len(field) > MAX_POINTER_CHARS:
            raise _invalid(".fields", f"must have entries of at most {MAX_POINTER_CHARS} characters")
        if field and not field.startswith("/"):
            raise _invalid(".fields", f"a JSON pointer begins with a slash: write /{field}")
    return tuple(value)


def _tolerance(name: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not _finite(value) or value < 0:
        raise _invalid(f".{name}", "must be a finite number, 0 or more")
    if value > MAX_TOLERANCE:
        raise _invalid(f".{name}", f"must be {MAX_TOLERANCE:g} or less")
    return float(value)


def _invalid(member: str, message: str) -> Invalid:
    error = Invalid.of([FieldError(_FIELD + member, message)])
    return Invalid(str(error), error.errors)


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _finite(number: float) -> bool:
    return isinstance(number, int) or math.isfinite(number)


def _exactly(number: float) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))
