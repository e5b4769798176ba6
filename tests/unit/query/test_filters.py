"""A list's filters and cursors: what is read, what is refused."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_query import filters
from loopgrid_query.cursors import Cursor
from loopgrid_query.errors import Malformed
from loopgrid_query.queries import load_queries

DECISION_ID = "1" * 32 + "-" + "2" * 16


def refused(*words: tuple[str, str]) -> Malformed:
    with pytest.raises(Malformed) as caught:
        filters.select(words)
    return caught.value


def test_every_filter_has_its_condition():
    own = {"limit", "cursor", "include_replays"}

    assert {f"filter_{name}" for name in set(filters.FILTERS) - own} <= set(load_queries())


def test_nothing_asked_for_lists_production_decisions_fifty_a_page():
    selection = filters.select([])

    assert selection.conditions == ("filter_production",)
    assert selection.limit == 50


def test_replays_are_listed_when_asked_for():
    assert filters.select([("include_replays", "true")]).conditions == ("filter_all",)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("servce_name", "service_name"),
        ("prompt", "prompt_name"),
        ("metadata", "metadata.<key>"),
        ("metadata.", "metadata.<key>"),
        ("SERVICE_NAME", "service_name"),
    ],
)
def test_an_unknown_filter_is_refused_with_the_nearest(name, suggestion):
    assert refused((name, "x")).errors[0].suggestion == suggestion


def test_a_filter_given_twice_is_refused_rather_than_half_ignored():
    assert refused(("status", "ok"), ("status", "error")).errors[0].field == "status"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "501"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", "٣"),
        ("limit", "9" * 5000),
        ("incorrect", "maybe"),
        ("kind", "tool"),
        ("status", "failed"),
        ("from", "yesterday"),
        ("from", "2026-03-01"),
        ("from", "2026-03-01T10:00:00"),
        ("to", "2026-02-30T10:00:00Z"),
        ("to", "1969-12-31T23:59:59Z"),
        ("to", "2026-03-01T10:00:00+99:00"),
        ("cursor", "nonsense"),
        ("cursor", ""),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_by_name(name, value):
    assert refused((name, value)).errors[0].field == name


def test_all_faults_of_an_address_are_named_at_once():
    assert [fault.field for fault in refused(("limit", "0"), ("x", "1"), ("kind", "y")).errors] == [
        "limit",
        "x",
        "kind",
    ]


def test_a_plus_that_the_address_turned_into_a_blank_is_explained():
    assert "%2B" in str(refused(("from", "2026-03-01T10:00:00 02:00")))


def test_moments_are_compared_in_utc():
    selection = filters.select([("from", "2026-03-01T10:00:00.5+02:00")])

    assert selection.parameters["from"] == datetime(2026, 3, 1, 8, 0, 0, 500_000)  # noqa: DTZ001


def test_metadata_keys_are_looked_up_as_one_name_whatever_they_hold():
    selection = filters.select([("metadata.a/b~c.d", "x"), ("metadata.e", "y")])

    assert selection.conditions[-2:] == ("filter_metadata:0", "filter_metadata:1")
    assert selection.parameters["metadata_key_0"] == "/a~1b~0c.d"


def test_searching_content_comes_after_every_cheaper_condition():
    selection = filters.select([("q", "x"), ("metadata.k", "v"), ("status", "ok")])

    assert selection.conditions[-1] == "filter_q"


def test_a_search_finds_text_however_json_escaped_it():
    parameters = filters.select([("q", 'é"')]).parameters

    assert parameters["q_plain"] == 'é\\"'
    assert parameters["q_escaped"] == '\\u00e9\\"'


@given(
    started_at=st.none() | st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2261, 1, 1)),  # noqa: DTZ001
    trace=st.integers(1, 2**128 - 1),
    span=st.integers(1, 2**64 - 1),
)
def test_a_cursor_comes_back_as_it_went(started_at, trace, span):
    cursor = Cursor(started_at, f"{trace:032x}-{span:016x}")
    back = Cursor.decode(cursor.encode())

    assert back.decision_id == cursor.decision_id
    assert back.started_at == (None if started_at is None else started_at.replace(tzinfo=UTC))


def encoded(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "%%%",
        "é",
        encoded({"a": 1}),
        encoded([2, 0, DECISION_ID]),
        encoded([1, 0, "x"]),
        encoded([1, "0", DECISION_ID]),
        encoded([1, True, DECISION_ID]),
        encoded([1, 10**40, DECISION_ID]),
        encoded([1, 0, [DECISION_ID]]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
def test_a_cursor_that_no_page_ended_in_is_refused(text):
    with pytest.raises(Malformed, match="cursor"):
        Cursor.decode(text)


@given(st.text(max_size=80))
def test_no_text_at_all_makes_a_cursor_fail_otherwise(text):
    try:
        Cursor.decode(text)
    except Malformed:
        return
