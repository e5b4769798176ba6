"""Decisions as they arrive: what ``loopgrid decisions list --follow`` prints.

They come in the order of their commits (``GET /v1/export``, ``after`` the last one), so that one which began
earlier and arrives later is not missed. A page of what was there before is printed first; the place to go on
from is asked for before that page, and what stands on both is printed once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import urllib3

from loopgrid_query.cli.connection import Away, Connection
from loopgrid_query.cli.errors import CliError

PAUSE_S: Final = 1.0
"""Seconds between two looks, at least."""

_REST: Final = 4
"""A look that takes long is followed by a pause this many times as long…"""

_LONGEST_PAUSE_S: Final = 10.0
"""… up to this."""

_BEYOND_ANY_COMMIT: Final = "9" * 18
_LAST_OF_COMMIT: Final = "f" * 32 + "-" + "f" * 16
_BUSY: Final = frozenset({429, 502, 503, 504})
_PIECE_BYTES: Final = 2**20
_NDJSON: Final = "application/x-ndjson"
_NO_MEMBERS: Final = ("ground_truth", "marks")
"""What an export adds to a decision as lists give it."""

Words = Sequence[tuple[str, str]]


class Follower:
    """The place in a ledger up to where decisions were seen. Begins at its end."""

    def __init__(self, connection: Connection, filters: Words) -> None:
        """Begin at the end of the ledger.

        Args:
            connection: to the server.
            filters: names and values as they stand in an address.

        Raises:
            CliError: the server is away or refuses.
        """
        self._connection = connection
        self._filters = filters
        self._ledger: str | None = None
        # Only the head of this answer is wanted: nothing comes after its place.
        self._after = f"{_BEYOND_ANY_COMMIT}:{_LAST_OF_COMMIT}"
        commit = "0"
        try:
            for answer in self._answers():
                commit = answer.headers["LoopGrid-Commit"]
        except _Empty:
            pass
        self._after = f"{commit}:{_LAST_OF_COMMIT}"

    def arrived(self) -> Iterator[dict[str, Any]]:
        """Decisions that arrived since, in the order of their commits.

        Those that were given out are not given out again, also where the server goes away in between.

        Raises:
            Away: the server is away, broke off or is busy; ask again.
            CliError: it refuses, or is another one.
        """
        try:
            for answer in self._answers():
                for line in _lines(answer):
                    told = json.loads(line)
                    decision: dict[str, Any] = told["row"]
                    for name in _NO_MEMBERS:
                        decision.pop(name, None)
                    yield decision
                    self._after = f"{decision['commit_id']}:{decision['decision_id']}"
        except _Empty:
            return
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Away("the server broke off.") from error

    def _answers(self) -> Iterator[urllib3.BaseHTTPResponse]:
        """The one answer, checked; let go of at the end."""
        words = [("format", "jsonl"), ("after", self._after), *self._filters]
        answer = self._connection.stream(f"/v1/export?{urlencode(words)}", accept=_NDJSON)
        try:
            if answer.status in _BUSY:
                raise Away("the server is busy.")
            if answer.status == HTTPStatus.NOT_FOUND:
                raise _Empty
            if answer.status != HTTPStatus.OK:
                raise _refusal(answer)
            ledger = answer.headers.get("LoopGrid-Ledger")
            if self._ledger not in (None, ledger):
                raise CliError("another ledger answers there now; start anew to follow that one.")
            self._ledger = ledger
            yield answer
        finally:
            answer.close()


class _Empty(Exception):
    """Nothing is on record yet."""


def _refusal(answer: urllib3.BaseHTTPResponse) -> CliError:
    try:
        return CliError(str(json.loads(answer.read(_PIECE_BYTES))["detail"]))
    except (ValueError, KeyError, TypeError):
        return CliError(f"the server answered HTTP {answer.status}: is that the API port, by default 8000?")


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for piece in answer.stream(_PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        raise Away("the server broke off.")


def follow(
    follower: Follower,
    shown: set[str],
    show: Callable[[list[Mapping[str, Any]]], None],
    say: Callable[[str], None],
) -> None:
    """Shows decisions as they arrive, until the process is interrupted.

    Args:
        follower: where to go on.
        shown: ids of decisions that were shown already, though the follower has not seen them.
        show: takes a list of decisions.
        say: takes a sentence about the server, for people.

    Raises:
        CliError: the server refuses, or is another one.
    """
    away = False
    while True:
        begun = time.monotonic()
        try:
            for batch in _batches(follower.arrived(), shown):
                away = _back(say, away=away)
                show(batch)
        except Away as error:
            if not away:
                say(f"{str(error).rstrip('.')}; trying again until it is back.")
            away = True
        else:
            away = _back(say, away=away)
        time.sleep(max(PAUSE_S, min(_LONGEST_PAUSE_S, _REST * (time.monotonic() - begun))))


def _back(say: Callable[[str], None], *, away: bool) -> bool:
    """Says that the server is back where it was away; it is not away then."""
    if away:
        say("The server is back.")
    return False


_MOST_AT_ONCE: Final = 200


def _batches(decisions: Iterator[Mapping[str, Any]], shown: set[str]) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    try:
        for decision in decisions:
            if decision["decision_id"] in shown:
                shown.discard(decision["decision_id"])
                continue
            batch.append(decision)
            if len(batch) >= _MOST_AT_ONCE:
                yield batch
                batch = []
    finally:
        # What came before it broke off was taken note of, so it is shown.
        if batch:
            yield batch
