"""A decision without what a reviewer shall not see of it yet. Pure."""

from __future__ import annotations

from collections.abc import Collection

from loopgrid_query.records import Record

WITHHELD = "withheld_for_review"


def veiled(record: Record, kept_back: Collection[str]) -> Record:
    """The decision as it would stand without some marks and corrections, saying that there are some.

    Args:
        record: a decision with everything said about it.
        kept_back: ids of the marks and corrections to leave out.
    """
    marks = [mark for mark in record["marks"] if mark["mark_id"] not in kept_back]
    corrections = [one for one in record["corrections"] if one["correction_id"] not in kept_back]
    if len(marks) == len(record["marks"]) and len(corrections) == len(record["corrections"]):
        return record
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
