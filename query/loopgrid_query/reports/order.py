"""In which order and colour outcomes are shown, the same in every report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from loopgrid_query.report_models import Item, Outcome

COLOURS: Final[Mapping[Outcome, str]] = {
    Outcome.FIXED: "good",
    Outcome.STILL_WRONG: "bad",
    Outcome.NEWLY_BROKEN: "bad",
    Outcome.CHANGED: "warn",
    Outcome.UNCHANGED: "dim",
    Outcome.NOT_COMPARABLE: "warn",
    Outcome.FAILED: "warn",
}
"""A class of the page's style for each outcome."""

GOOD: Final = frozenset({Outcome.FIXED, Outcome.UNCHANGED, Outcome.CHANGED})
"""Outcomes that nobody has to look into."""

_WEIGHT: Final = {
    outcome: weight
    for weight, outcome in enumerate(
        (
            Outcome.NEWLY_BROKEN,
            Outcome.STILL_WRONG,
            Outcome.FAILED,
            Outcome.NOT_COMPARABLE,
            Outcome.CHANGED,
            Outcome.FIXED,
            Outcome.UNCHANGED,
        )
    )
}


def by_weight(items: Iterable[Item]) -> list[Item]:
    """What somebody should look at first, first; then by decision id."""
    return sorted(items, key=lambda item: (_WEIGHT[item.outcome], item.decision_id))


def words(name: str) -> str:
    """An outcome or verdict as a person writes it."""
    return name.replace("_", " ")
