"""Points in time as the API writes and reads them: RFC 3339, UTC on the way out. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

FORM: Final = "RFC 3339 with a zone, such as 2026-03-01T09:30:00Z"

_RFC3339: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# OTLP keeps unsigned 64-bit nanoseconds; beyond this year they no longer fit a signed reader either.
_LAST_YEAR: Final = 2261


def parse_instant_ns(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 text; digits beyond nine are dropped.

    Raises:
        ValueError: it is none, or lies before 1970 or after 2261.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"write {FORM}")
    date, clock, fraction, zone = match.groups()
    try:
        whole = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        raise ValueError(f"no such moment; write {FORM}") from error
    if not _EPOCH.year <= whole.year <= _LAST_YEAR or whole < _EPOCH:
        raise ValueError(f"outside of 1970 to {_LAST_YEAR}")
    return (whole - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "0").ljust(9, "0"))


def parse_instant(text: str) -> datetime:
    """The moment an RFC 3339 text names, in UTC, microseconds.

    Raises:
        ValueError: as ``parse_instant_ns``.
    """
    return from_micros(parse_instant_ns(text) // 1000)


def from_micros(micros: int) -> datetime:
    """The moment so many microseconds after 1970.

    Raises:
        OverflowError: further away than dates reach.
    """
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (in_utc(moment) - _EPOCH) // timedelta(microseconds=1)


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC. One without a zone is UTC already: the ledger writes no other."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def as_stored(moment: datetime) -> datetime:
    """The moment as the ledger writes times: UTC, without a zone."""
    return in_utc(moment).replace(tzinfo=None)


def format_instant(moment: datetime) -> str:
    """RFC 3339 text, UTC, with microseconds where there are any."""
    return in_utc(moment).isoformat().replace("+00:00", "Z")
