"""What an export is asked for: the words of an address to a request. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from loopgrid.schema import parse_decision_id
from loopgrid_query import filters
from loopgrid_query.errors import FieldError, Malformed
from loopgrid_query.exports.formats import FORMATS
from loopgrid_query.filters import Selection
from loopgrid_query.instants import as_stored, parse_instant
from loopgrid_query.nearest import did_you_mean, nearest

POLICIES: Final = {
    "latest": "export_truth_latest",
    "majority": "export_truth_majority",
    "adjudicated": "export_truth_adjudicated",
}
"""Ground-truth policies: the word, and the query that gives the truth of every decision under it."""

NEWEST: Final = 2**62
"""A commit number beyond any: as of now."""

_ANY_MOMENT: Final = datetime(9999, 12, 31)  # noqa: DTZ001 - as the ledger stores times: UTC, without a zone
_MAX_COMMIT_DIGITS: Final = 18
NOT_HERE: Final = frozenset({"limit", "cursor"})


@dataclass(frozen=True, slots=True)
class After:
    """The last decision that was taken; the next one comes after it.

    Attributes:
        commit_id: its commit.
        decision_id: its id.
    """

    commit_id: int = 0
    decision_id: str = ""

    def text(self) -> str:
        """As it stands in an address."""
        return f"{self.commit_id}:{self.decision_id}"


@dataclass(frozen=True, slots=True)
class Request:
    """What to export.

    Attributes:
        format: one of ``formats.FORMATS``.
        policy: one of ``POLICIES``.
        selection: the filters.
        as_of_commit: the newest commit that counts.
        as_of_moment: the newest moment that counts, UTC without a zone.
        after: where to go on.
        split_at: where the subjects are divided by time, UTC without a zone; None where they are not.
    """

    format: str
    policy: str
    selection: Selection
    as_of_commit: int
    as_of_moment: datetime
    after: After
    split_at: datetime | None


def _named(known: Iterable[str]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in known:
            raise ValueError(f"{value!r} is none; {did_you_mean(value, list(known))}")
        return value

    return read


def read_as_of(value: str) -> tuple[int, datetime]:
    """The newest commit and the newest moment that count, from the number of one or the text of the other.

    Raises:
        ValueError: it is neither.
    """
    if value.isascii() and value.isdigit():
        if len(value) > _MAX_COMMIT_DIGITS:
            raise ValueError("there is no such commit")
        return int(value), _ANY_MOMENT
    return NEWEST, as_stored(parse_instant(value))


def _after(value: str) -> After:
    found = re.fullmatch(r"([0-9]{1,18}):([0-9a-f-]{49})", value, re.ASCII)
    if found is None:
        raise ValueError("a commit and a decision of it, as in 12:<decision_id>")
    parse_decision_id(found[2])
    return After(int(found[1]), found[2])


WORDS: Final[dict[str, Callable[[str], Any]]] = {
    "format": _named(FORMATS),
    "policy": _named(POLICIES),
    "as_of": read_as_of,
    "after": _after,
    "split_at": lambda value: as_stored(parse_instant(value)),
}
"""Every word of an export beside the filters of a list, and how its value is read."""


def read(words: Iterable[tuple[str, str]]) -> Request:
    """The request that the words of an address make.

    Raises:
        Malformed: a word is unknown or stands twice, or a value cannot be read. All faults are named.
    """
    given: dict[str, Any] = {}
    rest: list[tuple[str, str]] = []
    faults: list[FieldError] = []
    for name, value in words:
        if name in given:
            faults.append(FieldError(name, "stands twice; give each word once"))
        elif name in NOT_HERE or (name not in WORDS and _unknown(name)):
            known = [*WORDS, *(each for each in filters.FILTERS if each not in NOT_HERE)]
            message = f"an export knows no such word; {did_you_mean(name, known)}"
            faults.append(FieldError(name, message, nearest(name, known)))
        elif name not in WORDS:
            rest.append((name, value))
        else:
            try:
                given[name] = WORDS[name](value)
            except ValueError as error:
                faults.append(FieldError(name, str(error)))
    try:
        selection = filters.select(rest)
    except Malformed as error:
        faults.extend(error.errors)
    if faults:
        raise Malformed.of(faults)
    commit, moment = given.get("as_of", (NEWEST, _ANY_MOMENT))
    return Request(
        format=given.get("format", "jsonl"),
        policy=given.get("policy", "latest"),
        selection=selection,
        as_of_commit=commit,
        as_of_moment=moment,
        after=given.get("after", After()),
        split_at=given.get("split_at"),
    )


def _unknown(name: str) -> bool:
    return name not in filters.FILTERS and not name.startswith(filters.METADATA_PREFIX)
