"""The results of an arm of replays in one structure: every report is written from it, JSON is the structure.

An arm is one override set over a cohort of decisions, one replay a decision; a control arm repeats the same
decisions with nothing changed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

REPORT_VERSION: Final = 1
"""Goes up where a member changes its meaning or goes away."""


class ItemOutcome(StrEnum):
    """What became of one decision in an arm: a verdict of the comparison, or that nothing ran to an end."""

    FIXED = "fixed"
    STILL_WRONG = "still_wrong"
    NEWLY_BROKEN = "newly_broken"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    NOT_COMPARABLE = "not_comparable"
    FAILED = "failed"


class Item(BaseModel):
    """One decision of an arm."""

    decision_id: str
    replay_id: str | None = None
    outcome: ItemOutcome
    why: str = ""
    truth: bool = Field(default=False, description="a correction says what would have been right")
    before: bool | None = Field(
        default=None, description="the decision equals the correction; null where nobody can say"
    )
    after: bool | None = Field(default=None, description="the replay equals the correction")
    same: bool | None = Field(default=None, description="the replay equals the decision")


class Share(BaseModel):
    """So many of so many.

    What failed or cannot be compared stays in `of`. It might have become anything, so the true count lies
    from `count` to `possible`.
    """

    count: int = Field(description="those that are known to be so")
    possible: int = Field(description="`count`, and those of which nobody can say")
    of: int
    of_least: int = Field(
        description="`of` without those of which nobody can say whether they belong here, and that would not "
        "count if they did"
    )
    share: float | None = Field(
        description="`count` of `of`, the least it can be; null where `of` is 0. The most is `possible` of "
        "`of_least`"
    )
    low: float | None = Field(description="lower end of the exact interval (Clopper-Pearson) of the least")
    high: float | None = Field(description="upper end of the exact interval of the most")


class Outcomes(BaseModel):
    """Every outcome as a share of those that it could have befallen."""

    fixed: Share = Field(description="of those that were wrong")
    still_wrong: Share = Field(description="of those that were wrong")
    newly_broken: Share = Field(description="of those that were right")
    changed: Share = Field(description="another output, without a correction; of all items")
    unchanged: Share = Field(description="of all items")
    not_comparable: Share = Field(description="of all items")
    failed: Share = Field(description="of all items")


class Counted(BaseModel):
    """What the arm consists of."""

    items: int
    with_truth: int = Field(description="items with a correction")
    were_wrong: int = Field(description="items whose decision differed from the correction")
    were_right: int
    undecided: int = Field(
        description="items with a correction of whose decision nobody can say; they count among both "
        "`were_wrong` and `were_right` wherever those are a denominator"
    )


class Gain(BaseModel):
    """The share that is right after, less the share that was right before, in -1 to 1.

    Whatever nobody can say counts against the change; `possible` counts it for the change.
    """

    gain: float
    possible: float
    low: float | None = Field(description="lower end of the paired bootstrap interval of `gain`")
    high: float | None = Field(description="upper end of the paired bootstrap interval of `possible`")
    why_no_interval: str | None = None


class Paired(BaseModel):
    """The same decisions twice: with the change, and without.

    The table counts whatever nobody can say against the change.
    """

    baseline: Literal["control", "decision"] = Field(
        description="what the change is held against: the control arm's repeats, or the decisions themselves"
    )
    pairs: int = Field(description="items with a correction")
    open: int = Field(description="pairs of which one side failed or cannot be compared")
    both_right: int
    gained: int = Field(description="wrong without the change, right with it")
    lost: int = Field(description="right without the change, wrong with it")
    both_wrong: int
    p_value: float | None = Field(description="exact McNemar test, two-sided")
    gain: Gain | None


class Noise(BaseModel):
    """What changes although nothing was changed, from the control arm."""

    repeats: int
    differing: Share = Field(description="repeats whose output differs from the decision's; of all repeats")
    flipped: Share = Field(
        description="repeats of which right became wrong or wrong right; of those with a correction"
    )


class Conclusion(BaseModel):
    """Whether the change makes it better. A winner is never named without enough data."""

    verdict: Literal["better", "worse", "no_difference", "not_enough_data"]
    why: str
    more_needed: int | None = Field(
        description="further corrected decisions to plan for; null unless there is not enough data"
    )


class Method(BaseModel):
    """How it was computed; the same items and method give the same numbers."""

    alpha: float = Field(default=0.05, gt=0, lt=1, description="level of the two-sided test")
    power: float = Field(default=0.8, gt=0, lt=1, description="probability of seeing an effect that is there")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="of every interval")
    smallest_gain: float = Field(
        default=0.05, gt=0, le=1, description="the smallest gain that is worth finding"
    )
    resamples: int = Field(default=9999, ge=100, le=100_000, description="of the bootstrap")
    seed: int = Field(default=0, ge=0, description="of the bootstrap")


class Statistics(BaseModel):
    """An arm in numbers."""

    counted: Counted
    outcomes: Outcomes
    paired: Paired
    noise: Noise | None = Field(description="null without a control arm")
    conclusion: Conclusion
    notes: list[str] = Field(description="what to keep in mind when reading the numbers")
    method: Method


class GateVerdict(StrEnum):
    """What a rule comes to. Only ``PASS`` is a pass."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    UNKNOWN = "unknown"


class Clause(BaseModel):
    """One comparison of a rule."""

    text: str
    column: int = Field(description="where it begins in the rule, from 1")
    verdict: GateVerdict
    why: str


class Gate(BaseModel):
    """A rule, and what it comes to."""

    rule: str
    verdict: GateVerdict
    why: str
    clauses: list[Clause]


class GateReport(BaseModel):
    """An arm of replays: each decision, the numbers, and the rule they were held against."""

    version: int = Field(default=REPORT_VERSION, ge=REPORT_VERSION, le=REPORT_VERSION)
    title: str
    overrides: dict[str, Any] | None = Field(
        default=None, description="what was changed; null where the replays do not share it"
    )
    equality: dict[str, Any] = Field(description="when outputs counted as equal")
    gate: Gate | None = Field(description="null without a rule")
    statistics: Statistics
    items: list[Item]
    control: list[Item] | None = None
