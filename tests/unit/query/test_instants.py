"""Points in time: RFC 3339 in, UTC out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_query import instants

moments = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2261, 12, 31)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(moments)
def test_a_moment_written_is_the_moment_read(moment):
    assert instants.parse_instant(instants.format_instant(moment)) == moment


@given(moments)
def test_microseconds_are_exact_at_any_distance(moment):
    assert instants.from_micros(instants.to_micros(moment)) == moment


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01t00:00:01.5z", 1_500_000_000),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:00.1234567899Z", 123_456_789),
    ],
)
def test_nanoseconds_are_kept(text, expected_ns):
    assert instants.parse_instant_ns(text) == expected_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-01",
        "2026-03-01T10:00:00",
        "2026-03-01 10:00:00Z",
        "1970-01-01T00:00:00+01:00",
        "\uff12026-03-01T10:00:00Z",
    ],
)
def test_a_text_without_zone_or_sense_is_refused(text):
    with pytest.raises(ValueError, match=r"RFC 3339|outside"):
        instants.parse_instant_ns(text)


def test_a_moment_without_zone_is_utc_as_the_ledger_writes_it():
    moment = datetime(2026, 3, 1, 10, tzinfo=UTC)

    assert instants.in_utc(moment.replace(tzinfo=None)) == moment
    assert instants.as_stored(moment + timedelta(0)).tzinfo is None
