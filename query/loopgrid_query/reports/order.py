"""In which order and colour outcomes are shown, the same in every report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from loopgrid_query.report_models import Item, ItemOutcome

COLOURS: Final[Mapping[ItemOutcome, str]] = {
    ItemOutcome.FIXED: "good",
    ItemOutcome.STILL_WRONG: "bad",
    ItemOutcome.NEWLY_BROKEN: "bad",
    ItemOutcome.CHANGED: "warn",
    ItemOutcome.UNCHANGED: "dim",
    ItemOutcome.NOT_COMPARABLE: "warn",
    ItemOutcome.FAILED: "warn",
}
"""A class of the page's style for each outcome."""

GOOD: Final = frozenset({ItemOutcome.FIXED, ItemOutcome.UNCHANGED, ItemOutcome.CHANGED})
"""Outcomes that nobody has to look into."""

_WEIGHT: Final = {
    outcome: weight
    for weight, outcome in enumerate(
        (
            ItemOutcome.NEWLY_BROKEN,
            ItemOutcome.STILL_WRONG,
            ItemOutcome.FAILED,
            ItemOutcome.NOT_COMPARABLE,
            ItemOutcome.CHANGED,
            ItemOutcome.FIXED,
            ItemOutcome.UNCHANGED,
        )
    )
}


def by_weight(items: Iterable[Item]) -> list[Item]:
    """What somebody should look at first, first; then by decision id."""
    return sorted(items, key=lambda item: (_WEIGHT[item.outcome], item.decision_id))


def words(name: str) -> str:
    """An outcome or verdict as a person writes it."""
    return name.replace("_", " ")
