"""Which rows of an export rest on what is no longer so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from loopgrid_query.exports.parts import sha256_of
from loopgrid_query.exports.source import MAX_STANDING
from loopgrid_query.exports.writing import Refused

Standing = Callable[[Sequence[str], int, str], dict[str, Any]]
"""Decision ids, commit and policy to what they rest on now (``Exports.standing``)."""

SUPERSEDED: Final = "correction_superseded"
WITHDRAWN: Final = "correction_withdrawn"
NO_LONGER: Final = "no_longer_ground_truth"
MARK_WITHDRAWN: Final = "mark_withdrawn"
CORRECTED: Final = "corrected_since"
MARKED: Final = "marked_since"


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest, by its path or that of its folder, whose lineage is what it was.

    Raises:
        Refused: it is none, or its lineage was changed.
    """
    path = path / "manifest.json" if path.is_dir() else path
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        lineage = path.parent / manifest["lineage"]["name"]
        intact = sha256_of(lineage) == manifest["lineage"]["sha256"]
        manifest["ledger"]["ledger_id"], manifest["ledger"]["commit_id"], manifest["ground_truth_policy"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is no manifest of an export, or its lineage is missing.") from error
    if not intact:
        raise Refused(f"{lineage} is not what the manifest says; restore it.")
    return {**manifest, "path": str(path), "lineage_path": lineage}


def affected(manifest: dict[str, Any], standing: Standing) -> Iterator[dict[str, Any]]:
    """The rows that rest on what is no longer so: their lineage, the reasons, and the correction of today.

    Raises:
        Refused: it was exported from another ledger.
    """
    since, policy = manifest["ledger"]["commit_id"], manifest["ground_truth_policy"]
    with manifest["lineage_path"].open(encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        while group := list(islice(rows, MAX_STANDING)):
            ids = [row["decision_id"] for row in group]
            answer = standing(ids, since, policy)
            if answer["ledger_id"] != manifest["ledger"]["ledger_id"]:
                raise Refused(f"{manifest['path']} was exported from another ledger than this one.")
            now = {each["decision_id"]: each for each in answer["items"]}
            for row in group:
                found = now[row["decision_id"]]
                reasons = _reasons(row["correction_id"], found)
                if reasons:
                    yield {**row, "reasons": reasons, "now": found["correction_id"]}


def _reasons(correction_id: str | None, found: dict[str, Any]) -> list[str]:
    reasons = []
    # A server of before withdrawals does not tell them.
    withdrawn = found.get("withdrawn", ())
    if correction_id != found["correction_id"]:
        changed = NO_LONGER if found["correction_id"] is None else SUPERSEDED
        if correction_id in withdrawn:
            changed = WITHDRAWN
        reasons.append(CORRECTED if correction_id is None else changed)
    if any(entry.startswith("mrk_") for entry in withdrawn):
        reasons.append(MARK_WITHDRAWN)
    if found["marks"]:
        reasons.append(MARKED)
    return reasons
