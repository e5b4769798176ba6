"""Which media type a client gets."""

from __future__ import annotations

import pytest

from loopgrid_query.errors import NotAcceptable
from loopgrid_query.media import best

OFFERED = ("application/json", "text/csv")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("text/*", "text/csv"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("text/csv;q=0.1, */*", "application/json"),
        ("application/vnd.apache.arrow.stream, text/csv;q=0.5", "text/csv"),
    ],
)
def test_the_client_gets_what_it_weighs_highest(accept, expected):
    assert best(accept, OFFERED) == expected


@pytest.mark.parametrize(
    "accept", ["image/png", "text/csv;q=0", "text/csv;q=x", "application/vnd.apache.arrow.stream"]
)
def test_a_client_that_takes_none_is_told_what_there_is(accept):
    with pytest.raises(NotAcceptable, match="text/csv"):
        best(accept, OFFERED)
