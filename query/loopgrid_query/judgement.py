"""What people say beside marks and corrections, and about each other's words. Appended, never an edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from loopgrid_collector.errors import Forbidden
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import compare, ids, jsontext
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, FieldError, Invalid, Malformed, NotFound
from loopgrid_query.exports import asking
from loopgrid_query.exports.source import Exports
from loopgrid_query.judgement_models import (
    AdjudicationRequest,
    ApprovalRequest,
    StanceRequest,
    WithdrawalRequest,
)
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.models import given
from loopgrid_query.patches import applied
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, entry_record, parsed

POLICIES: Final = ("latest", "majority", "adjudicated")
"""How the truth of a decision follows from what people said; each is one branch of ``store.truth_rows``."""

_NOW: Final = "9" * 18
_STANCES: Final = frozenset({"mark", "approval", "correction"})


@dataclass(frozen=True, slots=True)
class Made:
    """What became of something that was to be said.

    Attributes:
        record: it, as it is on record.
        created: false where the idempotency key had brought it forth before.
    """

    record: Record
    created: bool


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says it.

    Attributes:
        name: as it will be on record; None where nobody knows.
        governs: may withdraw what others said: its key is an admin's.
    """

    name: str | None
    governs: bool = False


class Judgements:
    """What people say about decisions of one ledger, beside marks and corrections."""

    def __init__(
        self, reader: Reader, ingest: Ingest, decisions: Decisions, exports: Exports, locks: KeyedLocks
    ) -> None:
        """Judge decisions.

        Args:
            reader: the ledger.
            ingest: where entries are appended.
            decisions: the decisions spoken of.
            exports: reads the ledger as of a commit.
            locks: one lock a decision, shared by everything that appends to its judgement.
        """
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self._exports = exports
        self._locks = locks

    def approve(
        self, decision_id: str, request: ApprovalRequest, speaker: Speaker, key: str | None = None
    ) -> Made:
        """Append that a decision was correct.

        Args:
            decision_id: the decision.
            request: what is said about it.
            speaker: who says it.
            key: the idempotency key; what an earlier request with it appended is answered again.

        Raises:
            Malformed, NotFound: there is no such decision.
            Invalid: a text is no Unicode.
            Conflict: the key stands for something else.
            CollectorError: the door refuses; nothing is stored.
        """
        self._decisions.row(decision_id)
        body = _said(given(request))
        entry_id = ids.new_entry_id("approval", decision_id, key)
        with self._locks.holding(decision_id):
            return self._repeated(entry_id, None, speaker, body, key) or self._append(
                [_entry(entry_id, "approval", decision_id, None, speaker, body)]
            )

    def stand(
        self, event: str, decision_id: str, request: StanceRequest, speaker: Speaker, key: str | None = None
    ) -> Made:
        """Append that somebody agrees with, or disputes, what somebody else said.

        Args:
            event: ``agreement`` or ``dispute``.
            decision_id: the decision.
            request: the mark, approval or correction that is meant, and why.
            speaker: who says it.
            key: the idempotency key.

        Raises:
            NotFound: the decision has no such entry.
            Invalid: it cannot be agreed with, the speaker said it, or nobody knows who speaks.
            others: as ``approve``.
        """
        self._decisions.row(decision_id)
        who = _named(speaker)
        body = _said(given(request))
        entry_id = ids.new_entry_id(event, decision_id, key)
        with self._locks.holding(decision_id):
            before = self._repeated(entry_id, request.subject_id, speaker, body, key)
            if before is not None:
                return before
            subject = self._subject(decision_id, request.subject_id, _STANCES)
            if same_person(subject["said_by"], who):
                raise Invalid.of(
                    [FieldError("subject_id", f"{who} said it; it takes somebody else, or withdraw it")]
                )
            return self._append([_entry(entry_id, event, decision_id, request.subject_id, speaker, body)])

    def withdraw(
        self, decision_id: str, request: WithdrawalRequest, speaker: Speaker, key: str | None = None
    ) -> Made:
        """Append that something said counts no more. What it had taken the place of stands again.

        One's own words may be withdrawn by anybody, those of others with a key of scope admin; words without
        an author by whoever can write.

        Raises:
            NotFound: the decision has no such entry.
            Conflict: it is withdrawn already.
            Forbidden: somebody else said it.
            others: as ``approve``.
        """
        self._decisions.row(decision_id)
        body = _said(given(request))
        entry_id = ids.new_entry_id("withdrawal", decision_id, key)
        with self._locks.holding(decision_id):
            before = self._repeated(entry_id, request.subject_id, speaker, body, key)
            if before is not None:
                return before
            subject = self._subject(decision_id, request.subject_id)
            author = subject["said_by"]
            if author is not None and not same_person(author, speaker.name) and not speaker.governs:
                raise Forbidden(
                    f"{request.subject_id} was said by {author}, who may withdraw it, as may a key with the "
                    "scope admin. Dispute it instead."
                )
            return self._append(
                [_entry(entry_id, "withdrawal", decision_id, request.subject_id, speaker, body)]
            )

    def adjudicate(
        self, decision_id: str, request: AdjudicationRequest, speaker: Speaker, key: str | None = None
    ) -> Made:
        """Append which correction stands. One that is stated here is appended with it, in the same commit.

        Raises:
            NotFound: the decision has no such correction.
            Conflict: the correction is withdrawn, or a ``test`` of the patch failed.
            Invalid: none or several of ``correction_id``, ``correction`` and ``patch`` are given, or nobody
                knows who speaks.
            others: as ``approve``.
        """
        row = self._decisions.row(decision_id)
        _named(speaker)
        chosen = request.model_fields_set & {"correction_id", "correction", "patch"}
        named = [each for each in (request.correction_id, request.patch) if each is not None]
        if len(chosen) != 1 or not (named or chosen == {"correction"}):
            raise Invalid.of(
                [FieldError("correction_id", "give one of correction_id, correction and patch, and no other")]
            )
        entry_id = ids.new_entry_id("adjudication", decision_id, key)
        body: dict[str, Any] = {"reason": request.reason}
        entries: list[Entry] = []
        with self._locks.holding(decision_id):
            correction_id = request.correction_id
            if correction_id is None:
                # It follows from the adjudication's, so that a repeated request names the same one.
                correction_id = "cor_" + entry_id.partition("_")[2]
                correction = corrected(row, request.correction, request.patch)
                correction["reason"] = request.reason
            before = self._repeated(entry_id, correction_id, speaker, body, key)
            if before is not None:
                if request.correction_id is None:
                    self._same_correction(correction_id, correction)
                return before
            if request.correction_id is None:
                standing = self._reader.row("decision_ground_truth", decision_id=decision_id)
                if standing is not None:
                    correction["supersedes"] = standing["correction_id"]
                entries.append(_entry(correction_id, "correction", decision_id, None, speaker, correction))
            else:
                self._subject(decision_id, correction_id, frozenset({"correction"}))
            entries.append(_entry(entry_id, "adjudication", decision_id, correction_id, speaker, body))
            return self._append(entries)

    def history(self, decision_id: str) -> Record:
        """Everything that happened to a decision, oldest first, also what was withdrawn.

        Raises:
            Malformed, NotFound: there is no such decision.
        """
        row = self._decisions.row(decision_id)
        first = {
            **dict.fromkeys(_HISTORY_FIELDS),
            "event": "recorded",
            "id": decision_id,
            "withdrawn": False,
            **{name: row[name] for name in ("recorded_at", "commit_id", "digest")},
        }
        found = self._reader.rows("decision_history", {"decision_id": decision_id})
        return {"decision_id": decision_id, "items": [first, *(entry_record(each) for each in found)]}

    def truth(self, decision_id: str, policy: str, as_of: str | None) -> Record:
        """The ground truth of a decision under a policy.

        Args:
            decision_id: the decision.
            policy: one of ``POLICIES``.
            as_of: number of the newest commit that counts, or the newest moment; None for now.

        Raises:
            Malformed: ``as_of`` is neither.
            NotFound: there is no such decision, or it had no ground truth then.
        """
        self._decisions.row(decision_id)
        try:
            commit_id, moment = asking.read_as_of(as_of or _NOW)
        except ValueError as error:
            raise Malformed.of([FieldError("as_of", str(error))]) from error
        found = self._exports.truth(decision_id, policy, commit_id, moment)
        if found is None:
            raise NotFound(
                f"Decision {decision_id} has no ground truth under the policy {policy} as of then. "
                f"GET /v1/decisions/{decision_id}/history tells what was said."
            )
        return entry_record(found)

    def _subject(self, decision_id: str, subject_id: str, events: frozenset[str] | None = None) -> Row:
        """The standing entry of the decision that is spoken of."""
        row = self._reader.row("judgement", judgement_id=subject_id)
        if row is None or row["decision_id"] != decision_id:
            raise NotFound(
                f"Nobody said {subject_id} about decision {decision_id}. "
                f"GET /v1/decisions/{decision_id}/history lists what was said."
            )
        if row["withdrawn"]:
            raise Conflict(f"{subject_id} is withdrawn, so nothing more can be said about it.")
        if events is not None and row["event"] not in events:
            allowed = ", ".join(sorted(events))
            raise Invalid.of([FieldError("subject_id", f"is a {row['event']}; it must be one of {allowed}")])
        return row

    def _repeated(
        self, entry_id: str, subject_id: str | None, speaker: Speaker, body: dict[str, Any], key: str | None
    ) -> Made | None:
        """What an earlier request with the same key appended, or None."""
        row = None if key is None else self._reader.row("judgement", judgement_id=entry_id)
        if row is None:
            return None
        said = {"subject_id": subject_id, "said_by": speaker.name, "reason": None, **body}
        unlike = [name for name, value in said.items() if row[name] != value]
        if unlike:
            raise Conflict(
                f"The idempotency key stands for {row['event']} {entry_id}, which has another "
                f"{', '.join(unlike)}. Send the same request again, or choose another key."
            )
        return Made(entry_record(row), created=False)

    def _same_correction(self, correction_id: str, correction: dict[str, Any]) -> None:
        row = self._reader.row("judgement", judgement_id=correction_id)
        if row is None or not compare.same(parsed(row["output"]), correction["output"]):
            raise Conflict(
                "The idempotency key stands for an adjudication with another output. "
                "Send the same request again, or choose another key."
            )

    def _append(self, entries: Sequence[Entry]) -> Made:
        for entry in entries:
            jsontext.check(dict(entry.body), entry.entry_type)
            if entry.actor is not None:
                jsontext.check(entry.actor, "said_by")
        self._ingest.entries_blocking(entries)
        row = self._reader.row("judgement", judgement_id=entries[-1].entry_id)
        if row is None:
            raise AssertionError(f"{entries[-1].entry_id} was acknowledged, so it is on record")
        return Made(entry_record(row), created=True)


_HISTORY_FIELDS: Final = ("subject_id", "said_by", "reason", "category", "severity", "output", "patch")


def same_person(one: str | None, other: str | None) -> bool:
    """Whether two names name one person: case and space around them do not make two of one."""
    return one is not None and other is not None and one.strip().lower() == other.strip().lower()


def corrected(row: Row, output: Any, patch: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
    """What a correction says: the right output and, where it came as one, the patch that makes it.

    Args:
        row: the decision.
        output: the right output, where no patch is given.
        patch: operations on the recorded output.

    Raises:
        Conflict: a ``test`` of the patch failed.
        Invalid: the patch cannot be applied, or there is no whole output on record to apply it to.
    """
    if patch is None:
        jsontext.check(output, "correction")
        return {"output": output}
    jsontext.check(patch, "patch")
    cut = any(code.startswith("output:") for code in row["lossiness"] or ())
    if row["output"] is None or cut:
        raise Invalid.of(
            [FieldError("patch", "the decision has no whole output on record; send the right output instead")]
        )
    result = applied(patch, parsed(row["output"]))
    jsontext.check(result, "patch")
    return {"output": result, "patch": list(patch)}


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("reason", "category", "severity") if name in fields}


def _named(speaker: Speaker) -> str:
    if speaker.name is None:
        raise Invalid.of([FieldError("said_by", "is missing")])
    return speaker.name


def _entry(
    entry_id: str,
    entry_type: str,
    decision_id: str,
    subject_id: str | None,
    speaker: Speaker,
    body: dict[str, Any],
) -> Entry:
    trace_id, span_id = ids.split_decision_id(decision_id)
    return Entry(
        entry_id=entry_id,
        entry_type=entry_type,
        trace_id=trace_id,
        span_id=span_id,
        subject_id=subject_id,
        actor=speaker.name,
        body=body,
    )
