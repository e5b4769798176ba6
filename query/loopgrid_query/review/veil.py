"""A decision without what a reviewer shall not see of it yet. Pure."""

from __future__ import annotations

from collections.abc import Collection

from loopgrid_query.records import Record

WITHHELD = "withheld_for_review"


def veiled(record: Record, kept_back: Collection[str]) -> Record:
    """The decision as it would stand without some marks and corrections, saying that there are some.

    Args:
        record: a decision with everything said about it.
        kept_back: ids of the judgements to leave out.
    """
    if not kept_back:
        return record
    marks = [mark for mark in record["marks"] if mark["mark_id"] not in kept_back]
    corrections = [one for one in record["corrections"] if one["correction_id"] not in kept_back]
    # How many there are and which of them counts would say something, too.
    shown = {
        **record,
        "marks": marks,
        "corrections": [{**one, "supersedes": None} for one in corrections],
        "incorrect": bool(marks),
        "corrected": bool(corrections),
        WITHHELD: True,
    }
    truth = record["ground_truth"]
    if truth is not None and truth["correction_id"] in kept_back:
        shown["ground_truth"] = None
    return shown


def veiled_history(history: Record, kept_back: Collection[str]) -> Record:
    """A decision's history without some judgements, and without what speaks of them."""
    items = [
        one for one in history["items"] if one["id"] not in kept_back and one["subject_id"] not in kept_back
    ]
    return {**history, "items": items, WITHHELD: True} if kept_back else history
