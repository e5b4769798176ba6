"""The requests by which people judge decisions and each other's words, and their history. Pure.

They are part of `Calls`, which has what they need in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from loopgrid.errors import Invalid
from loopgrid.request import ABSENT, Call, as_json, new_key
from loopgrid.results import CorrectionRecord, History, JudgementRecord, MarkRecord, OutcomePage, Result

R = TypeVar("R", bound=Result)


class JudgementCalls:
    """What people say about decisions, as requests."""

    def mark_incorrect(
        self,
        decision_id: str,
        *,
        reason: str,
        category: str | None = None,
        severity: str | None = None,
        marked_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[MarkRecord]:
        """Mark a decision incorrect; appended, the decision itself stays as it is.

        Args:
            decision_id: the decision.
            reason: what is wrong with it.
            category: kind of fault, in a word of yours.
            severity: how bad it is, in a word of yours.
            marked_by: who says so; the API key's person by default.
            idempotency_key: sent again with the same key it is the same mark; a new one for each call by
                default.

        Raises:
            NotFound: the ledger has no such decision.
        """
        body = _given(reason=reason, category=category, severity=severity, marked_by=marked_by)
        return _said(decision_id, "incorrect", MarkRecord, body, idempotency_key)

    def mark_correct(
        self,
        decision_id: str,
        *,
        reason: str | None = None,
        category: str | None = None,
        severity: str | None = None,
        said_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[JudgementRecord]:
        """Say that a decision was correct (`event` is `approval`). Marks of those who say otherwise stand.

        Args:
            decision_id: the decision.
            reason: why it is right.
            category: kind of case, in a word of yours.
            severity: how much hangs on it, in a word of yours.
            said_by: who says so; the API key's person by default.
            idempotency_key: as `mark_incorrect`.

        Raises:
            NotFound: the ledger has no such decision.
        """
        body = _given(reason=reason, category=category, severity=severity, said_by=said_by)
        return _said(decision_id, "correct", JudgementRecord, body, idempotency_key)

    def attach_correction(
        self,
        decision_id: str,
        *,
        correction: Any = ABSENT,
        patch: Sequence[Mapping[str, Any]] | None = None,
        corrected_by: str | None = None,
        reason: str | None = None,
        category: str | None = None,
        severity: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[CorrectionRecord]:
        """Attach the output a human says is right; the latest correction is the ground truth.

        Args:
            decision_id: the decision.
            correction: the right output; anything JSON can hold.
            patch: instead of it, what to change in the recorded output: JSON Patch (RFC 6902).
            corrected_by: who says so; the API key's person by default.
            reason: why.
            category: kind of fault, in a word of yours.
            severity: how bad it is, in a word of yours.
            idempotency_key: sent again with the same key it is the same correction; a new one for each call
                by default.

        Raises:
            NotFound: the ledger has no such decision.
            Conflict: a `test` of the patch failed.
            Invalid: the correction cannot be written as JSON, the patch cannot be applied, both or neither
                are given, or nobody knows who says so.
        """
        said = _given(corrected_by=corrected_by, reason=reason, category=category, severity=severity)
        body = _right_output(correction, patch) | said
        return _said(decision_id, "correction", CorrectionRecord, body, idempotency_key)

    def agree(
        self,
        decision_id: str,
        subject_id: str,
        *,
        reason: str | None = None,
        said_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[JudgementRecord]:
        """Agree with a mark, an approval or a correction of somebody else.

        Args:
            decision_id: the decision.
            subject_id: id of what is agreed with.
            reason: why.
            said_by: who says so; the API key's person by default.
            idempotency_key: as `mark_incorrect`.

        Raises:
            NotFound: the ledger has no such decision, or nobody said that about it.
            Conflict: it is withdrawn.
            Invalid: it was said by the same person, or nobody knows who agrees.
        """
        body = _given(subject_id=subject_id, reason=reason, said_by=said_by)
        return _said(decision_id, "agree", JudgementRecord, body, idempotency_key)

    def dispute(
        self,
        decision_id: str,
        subject_id: str,
        *,
        reason: str | None = None,
        said_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[JudgementRecord]:
        """Dispute a mark, an approval or a correction of somebody else; arguments and errors as `agree`."""
        body = _given(subject_id=subject_id, reason=reason, said_by=said_by)
        return _said(decision_id, "dispute", JudgementRecord, body, idempotency_key)

    def withdraw(
        self,
        decision_id: str,
        subject_id: str,
        *,
        reason: str,
        said_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[JudgementRecord]:
        """Take back what was said: it stays on record and counts no more; what stood before stands again.

        Args:
            decision_id: the decision.
            subject_id: id of what is withdrawn.
            reason: why.
            said_by: who says so; the API key's person by default.
            idempotency_key: as `mark_incorrect`.

        Raises:
            NotFound: the ledger has no such decision, or nobody said that about it.
            Conflict: it is withdrawn already.
            Forbidden: somebody else said it, and the API key is no admin's.
        """
        body = _given(subject_id=subject_id, reason=reason, said_by=said_by)
        return _said(decision_id, "withdraw", JudgementRecord, body, idempotency_key)

    def adjudicate(
        self,
        decision_id: str,
        correction_id: str | None = None,
        *,
        reason: str,
        correction: Any = ABSENT,
        patch: Sequence[Mapping[str, Any]] | None = None,
        said_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[JudgementRecord]:
        """End a dispute: say which correction stands, or state the right output, which is appended with it.

        Args:
            decision_id: the decision.
            correction_id: the correction that stands.
            reason: why.
            correction: the right output, where none on record is.
            patch: the same as JSON Patch (RFC 6902) of the recorded output.
            said_by: who says so; the API key's person by default.
            idempotency_key: as `mark_incorrect`.

        Returns:
            The adjudication; its `subject_id` is the correction that stands.

        Raises:
            NotFound: the ledger has no such decision, or it has no such correction.
            Conflict: the correction is withdrawn, or a `test` of the patch failed.
            Invalid: not exactly one of `correction_id`, `correction` and `patch` is given.
        """
        if correction_id is None:
            chosen = _right_output(correction, patch)
        elif correction is ABSENT and patch is None:
            chosen = {"correction_id": correction_id}
        else:
            raise Invalid("give correction_id, correction or patch, and no two of them")
        body = chosen | _given(reason=reason, said_by=said_by)
        return _said(decision_id, "adjudicate", JudgementRecord, body, idempotency_key)

    def history(self, decision_id: str) -> Call[History]:
        """Everything that happened to a decision, oldest first, with who, when and commit.

        Returns:
            `{"decision_id", "items": […]}`; the items are also its attribute `events`.

        Raises:
            NotFound: the ledger has no such decision.
        """
        return Call("GET", f"{_path(decision_id)}/history", History, settles=True)

    def report_outcome(
        self,
        key: str,
        value: str,
        *,
        outcome: Any,
        occurred_at: Any = None,
        reported_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[OutcomePage]:
        """Report what became of a thing, by the business key that decisions about it state.

        Args:
            key: kind of the key, as in `loopgrid.current().key("order", "4711")`.
            value: its value.
            outcome: what happened; anything JSON can hold.
            occurred_at: when, a datetime with time zone or ISO 8601 text.
            reported_by: who says so; the API key's person by default.
            idempotency_key: as `mark_incorrect`.

        Returns:
            `{"items": […]}`: the outcome beside every decision that states the key by now.

        Raises:
            Invalid: the outcome cannot be written as JSON.
        """
        body = _given(key=key, value=value, reported_by=reported_by)
        body["outcome"] = as_json(outcome, "outcome")
        if occurred_at is not None:
            body["occurred_at"] = as_json(occurred_at, "occurred_at")
        again = idempotency_key or new_key()
        return Call("POST", "/v1/outcomes", OutcomePage, body=body, settles=True, key=again, recorded=True)


def _given(**fields: str | None) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _right_output(correction: Any, patch: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    if (correction is ABSENT) == (patch is None):
        raise Invalid("give either correction, the right output, or patch, what to change in it")
    if patch is not None:
        return {"patch": as_json(patch, "patch")}
    return {"correction": as_json(correction, "correction")}


def _path(decision_id: str) -> str:
    return f"/v1/decisions/{quote(decision_id, safe='')}"


def _said(decision_id: str, verb: str, result: type[R], body: Mapping[str, Any], key: str | None) -> Call[R]:
    path = f"{_path(decision_id)}/{verb}"
    return Call("POST", path, result, body=body, settles=True, key=key or new_key(), recorded=True)
