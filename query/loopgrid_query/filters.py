"""A list's filters: from the words of an address to conditions and parameters. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from loopgrid.schema import Kind
from loopgrid_query.cursors import Cursor
from loopgrid_query.errors import FieldError, Malformed
from loopgrid_query.instants import as_stored, parse_instant
from loopgrid_query.nearest import did_you_mean, nearest

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
METADATA_PREFIX: Final = "metadata."
TEXT_PARAMETERS: Final = frozenset({"q_plain", "q_escaped"})
"""Parameters of a search for text."""

_BOOLEANS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Selection:
    """What to list.

    Attributes:
        conditions: names of ``filter_…`` queries, as ``queries.Reader.rows`` takes them.
        parameters: their values by name.
        limit: decisions a page.
        cursor: the decision beside the page, none for the first page; it stands in no condition.
    """

    conditions: tuple[str, ...]
    parameters: dict[str, Any]
    limit: int
    cursor: Cursor | None = None


def _text(value: str) -> str:
    return value


def _boolean(value: str) -> bool:
    if value.lower() not in _BOOLEANS:
        raise ValueError("write true or false")
    return _BOOLEANS[value.lower()]


def _one_of(*names: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is none; {did_you_mean(value, names)}")
        return value

    return read


def _limit(value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 4 or not 1 <= int(value) <= MAX_LIMIT:  # noqa: PLR2004 - the digits of MAX_LIMIT and one more
        raise ValueError(f"a number from 1 to {MAX_LIMIT}")
    return int(value)


def _moment(value: str) -> Any:
    try:
        return as_stored(parse_instant(value))
    except ValueError as error:
        hint = " (in an address, + is written %2B)" if " " in value else ""
        raise ValueError(f"{error}{hint}") from error


FILTERS: Final[dict[str, Callable[[str], Any]]] = {
    "service_name": _text,
    "decision_type": _text,
    "model": _text,
    "prompt_name": _text,
    "prompt_version": _text,
    "kind": _one_of(Kind.DECISION.value, Kind.INFERENCE.value),
    "status": _one_of("ok", "error"),
    "session_id": _text,
    "user_id": _text,
    "from": _moment,
    "to": _moment,
    "incorrect": _boolean,
    "corrected": _boolean,
    "q": _text,
    "include_replays": _boolean,
    "limit": _limit,
    "cursor": Cursor.decode,
}
"""Every word a list knows beside ``metadata.<key>``, and how its value is read."""


def select(words: Iterable[tuple[str, str]]) -> Selection:
    """The selection that the words of an address ask for.

    Args:
        words: names and values in the order they stand.

    Raises:
        Malformed: a name is unknown or stands twice, or a value cannot be read. All faults are named.
    """
    given: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    faults: list[FieldError] = []
    for name, value in words:
        if name in given or name in metadata:
            faults.append(FieldError(name, "stands twice; give each filter once"))
        elif name.startswith(METADATA_PREFIX) and name != METADATA_PREFIX:
            metadata[name] = value
        elif name not in FILTERS:
            known = [*FILTERS, METADATA_PREFIX + "<key>"]
            message = f"there is no such filter; {did_you_mean(name, known)}"
            faults.append(FieldError(name, message, nearest(name, known)))
        else:
            try:
                given[name] = FILTERS[name](value)
            except ValueError as error:
                faults.append(FieldError(name, str(error)))
            except Malformed as error:
                faults.extend(error.errors)
    if faults:
        raise Malformed.of(faults)
    return _selection(given, metadata)


def _selection(given: dict[str, Any], metadata: dict[str, str]) -> Selection:
    limit = given.pop("limit", DEFAULT_LIMIT)
    cursor: Cursor | None = given.pop("cursor", None)
    conditions = [] if given.pop("include_replays", False) else ["filter_production"]
    parameters: dict[str, Any] = {}
    # A scan of content costs most, so it comes last.
    wanted = given.pop("q", None)
    for name, value in given.items():
        conditions.append(f"filter_{name}")
        parameters[name] = value
    for number, (name, value) in enumerate(metadata.items()):
        conditions.append(f"filter_metadata:{number}")
        key = name.removeprefix(METADATA_PREFIX).replace("~", "~0").replace("/", "~1")
        parameters[f"metadata_key_{number}"] = "/" + key
        parameters[f"metadata_value_{number}"] = value
    if wanted is not None:
        conditions.append("filter_q")
        parameters["q_plain"] = json.dumps(wanted, ensure_ascii=False)[1:-1]
        parameters["q_escaped"] = json.dumps(wanted)[1:-1]
    return Selection(tuple(conditions) or ("filter_all",), parameters, limit, cursor)
