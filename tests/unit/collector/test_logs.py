"""Logs: one line each, nothing of a payload, and no flood of one sentence."""

from __future__ import annotations

import io
import json
import logging
import sys

import duckdb
import pytest

from loopgrid_collector.ledger.ledger import told
from loopgrid_collector.logs import JsonLines, OncePerSecond


def test_an_exception_is_told_by_type_and_frames_and_never_by_its_text():
    payload = "sec" + "ret\nof two lines"
    try:
        int(payload)
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "f.py", 1, "it %s", ("broke",), sys.exc_info())
    line = JsonLines().format(record)

    assert "secret" not in line
    assert "\n" not in line
    assert ("error", "it broke", "ValueError") == tuple(
        json.loads(line)[key] for key in ("level", "message", "error")
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (duckdb.ConversionException("Could not convert 'secret'"), "ConversionException"),
        (duckdb.IOException("disk full\nat block 7"), "IOException: disk full"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (KeyError("secret"), "KeyError"),
    ],
)
def test_only_errors_that_speak_of_the_machine_are_quoted(error, line):
    assert told(error) == line


def test_the_same_sentence_is_said_once_a_second_with_a_count_of_the_others():
    moment = 100.0
    written = io.StringIO()
    log = logging.getLogger("tests.once-per-second")
    log.addHandler(handler := logging.StreamHandler(written))
    say = OncePerSecond(log, lambda: moment)

    for number in range(5):
        say(logging.ERROR, "refused %d", number)
    say(logging.ERROR, "something else")
    moment = 101.0
    say(logging.ERROR, "refused %d", 9)
    moment = 102.5
    say(logging.ERROR, "refused %d", 10)
    log.removeHandler(handler)

    assert written.getvalue().splitlines() == [
        "refused 0",
        "something else",
        "refused 9 (and 4 times more since it was last said)",
        "refused 10",
    ]
