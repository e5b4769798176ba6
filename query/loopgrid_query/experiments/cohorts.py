"""Cohorts of one ledger: which decisions, chosen once and then frozen, under a name and a version."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from typing import Any, Final

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import ids, jsontext
from loopgrid_query.errors import FieldError, Invalid, Malformed, NotFound
from loopgrid_query.experiment_models import MAX_COHORT, CohortGiven, CohortRequest
from loopgrid_query.instants import FORM, as_stored, parse_instant
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record
from loopgrid_query.review.sampling import selection_of

_SEED_BYTES: Final = 8


class Cohorts:
    """The cohorts of one ledger. Threads may share them."""

    def __init__(self, reader: Reader, ingest: Ingest) -> None:
        self._reader = reader
        self._ingest = ingest
        self._lock = threading.Lock()

    def create(self, request: CohortRequest, created_by: str | None) -> Record:
        """Freeze a cohort; under a name that exists, its next version.

        Raises:
            Invalid: it cannot be meant, names what is no decision on record, or nothing was found.
            CollectorError: the door refuses; nothing is stored.
        """
        jsontext.check(request.name, "name")
        if "@" in request.name:
            raise Invalid.of([FieldError("name", "must not hold @, which stands before a version")])
        decision_ids, chosen = self.choose(request, request.policy, "")
        with self._lock:
            before = self._reader.row("cohort_named", named="", called=request.name, version=None)
            version = 1 if before is None else before["version"] + 1
            cohort_id = self._append(request.name, version, decision_ids, chosen, created_by)
        return self.get(cohort_id)

    def append_for(self, name: str, decision_ids: Sequence[str], chosen: Record, by: str | None) -> str:
        """Freeze a cohort that was made for one experiment; its id."""
        with self._lock:
            return self._append(name, 1, decision_ids, chosen, by)

    def all(self) -> Record:
        """The newest thousand."""
        return {"items": [_record(row) for row in self._reader.rows("cohorts", {})]}

    def get(self, named: str) -> Record:
        """A cohort by its id, its name or ``name@version``.

        Raises:
            NotFound: there is none.
        """
        return _record(self._row(named))

    def members(self, named: str) -> list[str]:
        """The decisions of a cohort, in its order. Raises as ``get``."""
        rows = self._reader.rows("cohort_members", {"cohort_id": self._row(named)["cohort_id"]})
        return [row["decision_id"] for row in rows]

    def page(self, named: str, limit: int, cursor: str | None) -> Record:
        """Some of the decisions of a cohort.

        Raises:
            NotFound: there is no such cohort.
            Malformed: no page ended in the cursor.
        """
        members = self.members(named)
        start = page_start(cursor, len(members))
        end = start + limit
        return {"items": members[start:end], "next_cursor": str(end) if end < len(members) else None}

    def choose(self, given: CohortGiven, policy: str, where: str) -> tuple[list[str], Record]:
        """The decisions that are asked for, and what is recorded about the choice.

        Args:
            given: what finds them.
            policy: whose word counts as ground truth.
            where: path of the fields in the request, for messages.

        Raises:
            Invalid: it cannot be meant, or nothing was found.
        """
        if given.decision_ids is not None:
            return self._named(given, where)
        if given.filters is None and given.corrected_since is None:
            message = "is missing: name decisions, or say which filters or corrected_since find them"
            raise Invalid.of([FieldError(f"{where}decision_ids", message)])
        if given.random and given.size is None:
            raise Invalid.of([FieldError(f"{where}size", "is missing: how many are drawn at random")])
        if given.random and given.corrected_since is not None:
            message = "does not go with corrected_since, of which size takes the newest"
            raise Invalid.of([FieldError(f"{where}random", message)])
        if given.uncorrected_sample is not None and given.corrected_since is None:
            raise Invalid.of(
                [FieldError(f"{where}uncorrected_sample", "goes with corrected_since; use random and size")]
            )
        filters = given.filters or {}
        jsontext.check(filters, f"{where}filters")
        selection = selection_of(filters, f"{where}filters", "a cohort")
        size = given.size or MAX_COHORT
        chosen: Record = {"filters": dict(filters)}
        parameters: dict[str, Any] = {**selection.parameters, "size": size}
        drawn: dict[str, Any] = {}
        if given.random or given.uncorrected_sample is not None:
            chosen["seed"] = drawn["seed"] = given.seed or secrets.token_hex(_SEED_BYTES)
        if given.corrected_since is not None:
            since = _moment(given.corrected_since, f"{where}corrected_since")
            chosen |= {"corrected_since": given.corrected_since, "policy": policy}
            words = {**parameters, "since": since, "policy": policy}
            found = self._found("cohort_corrected", words, selection)
        elif given.random:
            found = self._found("cohort_sampled", {**parameters, **drawn}, selection)
        else:
            found = self._found("cohort_filtered", parameters, selection)
        chosen["found"] = found[0]["found"] if found else 0
        if given.uncorrected_sample is not None:
            words = {**parameters, **drawn, "size": given.uncorrected_sample}
            besides = self._found("cohort_uncorrected", words, selection)
            chosen |= {"uncorrected_sample": len(besides)}
            found += besides
        if not found:
            raise Invalid(
                "No decision was found, so there is no cohort; widen the filters"
                f"{'' if given.corrected_since is None else ', or name an earlier corrected_since'}."
            )
        if given.size is None and chosen["found"] > MAX_COHORT:
            raise Invalid.of(
                [
                    FieldError(
                        f"{where}size", f"{chosen['found']} decisions fit, {MAX_COHORT} at most: say how many"
                    )
                ]
            )
        return [row["decision_id"] for row in found][:MAX_COHORT], chosen

    def _named(self, given: CohortGiven, where: str) -> tuple[list[str], Record]:
        besides = given.model_fields_set & {
            "filters",
            "corrected_since",
            "uncorrected_sample",
            "size",
            "seed",
        }
        if besides:
            raise Invalid.of([FieldError(f"{where}{min(besides)}", "does not go with decision_ids")])
        wanted = list(dict.fromkeys(given.decision_ids or ()))
        rows = self._reader.rows("cohort_known", {"decision_ids": wanted})
        missing = set(wanted) - {row["decision_id"] for row in rows}
        if missing:
            raise Invalid.of(
                [
                    FieldError(
                        f"{where}decision_ids", f"{len(missing)} are no decisions on record: {min(missing)}…"
                    )
                ]
            )
        return wanted, {"decision_ids": len(wanted), "found": len(wanted)}

    def _found(self, name: str, parameters: dict[str, Any], selection: Any) -> list[Row]:
        return self._reader.rows(name, parameters, conditions=selection.conditions)

    def _append(
        self, name: str, version: int, decision_ids: Sequence[str], chosen: Record, by: str | None
    ) -> str:
        cohort_id = ids.new_cohort_id()
        body = {"name": name, "version": version, "decision_ids": list(decision_ids), "chosen": chosen}
        self._ingest.entry_blocking(Entry(cohort_id, "cohort", 0, 0, None, by, body))
        return cohort_id

    def _row(self, named: str) -> Row:
        name, at, number = named.rpartition("@")
        version = int(number) if at and number.isdecimal() and len(number) < _DIGITS else None
        if at and version is None:
            name = named
        row = self._reader.row("cohort_named", named=named, called=name if at else named, version=version)
        if row is None:
            raise NotFound(f"No cohort {named!r} is on record. GET /v1/cohorts lists those that are.")
        return row


_DIGITS: Final = 10


def page_start(cursor: str | None, length: int) -> int:
    """Where a page begins that a cursor of ours names.

    Raises:
        Malformed: it names none.
    """
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > _DIGITS or not 0 < int(cursor) < max(length, 1):
        raise Malformed.of([FieldError("cursor", "not a cursor of this list; use one of another page")])
    return int(cursor)


def _record(row: Row) -> Record:
    return {**row, "chosen": jsontext.stored(row["chosen"])}


def _moment(text: str, where: str) -> str:
    try:
        return as_stored(parse_instant(text)).isoformat()
    except ValueError as error:
        raise Invalid.of([FieldError(where, f"is no moment; write {FORM}")]) from error
