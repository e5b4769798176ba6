"""An arm of replays in numbers: shares, exact McNemar, bootstrap intervals, noise, and how many are missing.
Pure.

Laws:

* What failed or cannot be compared never shrinks a denominator. It might have become anything, so a count is
  a range: from what is known to what is possible.
* Wherever one number must stand for the range it is the one that speaks against the change.
* Without enough data there is no winner, but the number of further decisions to plan for.

The computing is SciPy's and statsmodels', from the extra ``experiments``, imported when first needed.
"""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np

from loopgrid_query.compare import (
    ABSENT,
    EXACT,
    MAX_COMPARED_CHARS,
    Equality,
    Large,
    Side,
    judge,
    why_nothing,
)
from loopgrid_query.errors import Invalid, NotInstalled
from loopgrid_query.report_models import (
    Conclusion,
    Counted,
    Gain,
    Item,
    ItemOutcome,
    Method,
    Noise,
    Outcomes,
    Paired,
    Share,
    Statistics,
)

MAX_PLANNED: Final = 1_000_000
"""Decisions beyond which no plan is made."""
_BATCH_VALUES: Final = 2_000_000
"""Values of one portion of the bootstrap: 16 MB a copy."""
_NOTHING_RAN: Final = frozenset({"failed", "refused", "cancelled"})
_TAIL: Final = 1e-12
_FEWEST: Final = 2


def item_of(
    decision: Mapping[str, Any],
    replay: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    *,
    equality: Equality = EXACT,
    nulls: Container[str] = frozenset(),
) -> Item:
    """One decision of an arm: the verdict that a comparison with its replay gives.

    Args:
        decision: the decision, as the API gives it, with its ground truth.
        replay: a replay of it.
        result: the decision that the replay led to; None where there is none.
        equality: when outputs count as equal.
        nulls: ids of decisions whose output on record is JSON's null. The API shows them like those that have
            none on record.
    """
    truth = decision["ground_truth"]
    right = ABSENT if truth is None else _content(truth["output"])
    left = _side(decision, nulls)
    ended = replay["status"] == "completed" and result is not None
    verdict = judge(
        left,
        _side(result, nulls) if ended and result is not None else None,
        right,
        equality=equality,
        nothing=why_nothing(replay),
    )
    before = verdict.left
    if before is None and truth is not None:
        # Beside itself: whether it was right is known although there is nothing to compare it with.
        before = judge(left, left, right, equality=equality).left
    failed = replay["status"] in _NOTHING_RAN
    return Item(
        decision_id=decision["decision_id"],
        replay_id=replay["replay_id"],
        outcome=ItemOutcome.FAILED if failed else ItemOutcome(verdict.judgement.value),
        why=verdict.why,
        truth=truth is not None,
        before=before,
        after=verdict.right,
        same=verdict.outputs,
    )


def statistics(
    arm: Sequence[Item], control: Sequence[Item] | None = None, method: Method | None = None
) -> Statistics:
    """What an arm comes to.

    Args:
        arm: one item a decision.
        control: the same decisions repeated with nothing changed, one item each; None where nobody did.
        method: levels, resamples and seed. The order of the items does not matter.

    Raises:
        Invalid: a decision stands in an arm twice.
        NotInstalled: the statistics libraries are not here.
    """
    asked = method or Method()
    items = _by_decision(arm, "arm")
    repeats = None if control is None else _by_decision(control, "control arm")
    pairs = _pairs(items, repeats)
    paired = _paired(pairs, "decision" if repeats is None else "control", asked)
    return Statistics(
        counted=_counted(items),
        outcomes=_outcomes(items, asked),
        paired=paired,
        noise=None if repeats is None else _noise(repeats, asked),
        conclusion=_conclusion(pairs, paired, asked),
        notes=_notes(items, repeats, paired),
        method=asked,
    )


def power(pairs: int, gained: float, lost: float, tail: float) -> float:
    """The probability that the exact McNemar test finds that more is gained than lost.

    Unconditional: over every number of discordant pairs that may turn up.

    Args:
        pairs: decisions that are run with and without the change.
        gained: probability that a pair is wrong without and right with the change.
        lost: probability of the opposite.
        tail: level of one tail of the test; half the level of a two-sided test.

    Raises:
        NotInstalled: SciPy is not here.
    """
    binom = library("scipy.stats").binom
    discordant = gained + lost
    if discordant <= 0 or pairs < 1:
        return 0.0
    bounds = binom.ppf([_TAIL, 1 - _TAIL], pairs, min(discordant, 1.0))
    numbers = np.arange(max(0, bounds[0]), bounds[1] + 1)
    critical = binom.ppf(tail, numbers, 0.5)
    critical -= binom.cdf(critical, numbers, 0.5) > tail
    found = binom.cdf(critical, numbers, lost / discordant)
    return float(binom.pmf(numbers, pairs, min(discordant, 1.0)) @ found)


def needed(gained: float, lost: float, method: Method) -> int | None:
    """Pairs that a two-sided test needs to find an effect with the method's power; None beyond `MAX_PLANNED`.

    Args:
        gained: probability that a pair is wrong without and right with the change.
        lost: probability of the opposite.
        method: levels.

    Raises:
        NotInstalled: SciPy is not here.
    """
    larger, smaller = max(gained, lost), min(gained, lost)

    def enough(pairs: int) -> bool:
        return power(pairs, larger, smaller, method.alpha / 2) >= method.power

    high = 1
    while not enough(high):
        high *= 2
        if high > MAX_PLANNED:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class _Pair:
    """Whether one decision is right with the change, and without; None where nobody can say."""

    after: bool | None
    base: bool | None

    def against(self) -> tuple[bool, bool]:
        """After and base, what is open counted against the change."""
        return self.after is True, self.base is not False

    def in_favour(self) -> tuple[bool, bool]:
        """After and base, what is open counted for the change."""
        return self.after is not False, self.base is True


def _side(decision: Mapping[str, Any], nulls: Container[str]) -> Side:
    failure = decision["error"]["message"] or decision["error"]["type"]
    if failure is None and decision["status"] == "error":
        failure = "it does not say why."
    absent = decision["output"] is None and decision["decision_id"] not in nulls
    return Side(
        output=ABSENT if absent else _content(decision["output"]),
        failure=failure,
        lossiness=tuple(decision["lossiness"] or ()),
        marked=bool(decision["incorrect"]),
    )


def _content(value: Any) -> Any:
    """A value, or what stands for one that is too large to be looked into."""
    text = json.dumps(value, sort_keys=True)
    return Large.of(text) if len(text) > MAX_COMPARED_CHARS else value


def _by_decision(items: Sequence[Item], named: str) -> list[Item]:
    ordered = sorted(items, key=lambda item: item.decision_id)
    for one, other in itertools.pairwise(ordered):
        if one.decision_id == other.decision_id:
            raise Invalid(f"Decision {one.decision_id} is in the {named} twice; leave one replay of it.")
    return ordered


def _pairs(items: Sequence[Item], repeats: Sequence[Item] | None) -> list[_Pair]:
    if repeats is None:
        return [_Pair(item.after, item.before) for item in items if item.truth]
    repeated = {item.decision_id: item.after for item in repeats}
    return [_Pair(item.after, repeated.get(item.decision_id)) for item in items if item.truth]


def _counted(items: Sequence[Item]) -> Counted:
    true = [item for item in items if item.truth]
    return Counted(
        items=len(items),
        with_truth=len(true),
        were_wrong=sum(item.before is False for item in true),
        were_right=sum(item.before is True for item in true),
        undecided=sum(item.before is None for item in true),
    )


def _outcomes(items: Sequence[Item], method: Method) -> Outcomes:
    """Shares by outcome; `possible` adds the items that might have come to it."""

    def share(outcome: ItemOutcome, among: Sequence[Item], might: Callable[[Item], bool]) -> Share:
        count = sum(item.outcome is outcome for item in among)
        could = [item.outcome is not outcome and might(item) for item in among]
        # Whether an undecided item was wrong or right nobody can say: it may belong to the other side.
        undecided = [among is not items and item.before is None for item in among]
        away = sum(unsaid and not can for unsaid, can in zip(undecided, could, strict=True))
        return _share(count, count + sum(could), len(among), method, away=away)

    wrong = [item for item in items if item.truth and item.before is not True]
    right = [item for item in items if item.truth and item.before is not False]
    return Outcomes(
        fixed=share(ItemOutcome.FIXED, wrong, lambda item: _open(item) and item.after is not False),
        still_wrong=share(
            ItemOutcome.STILL_WRONG, wrong, lambda item: _open(item) and item.after is not True
        ),
        newly_broken=share(
            ItemOutcome.NEWLY_BROKEN, right, lambda item: _open(item) and item.after is not True
        ),
        changed=share(ItemOutcome.CHANGED, items, lambda item: _open(item) and not item.truth),
        unchanged=share(ItemOutcome.UNCHANGED, items, lambda item: _open(item) and item.before is not False),
        not_comparable=share(ItemOutcome.NOT_COMPARABLE, items, lambda _item: False),
        failed=share(ItemOutcome.FAILED, items, lambda _item: False),
    )


def _open(item: Item) -> bool:
    return item.outcome in {ItemOutcome.FAILED, ItemOutcome.NOT_COMPARABLE}


def _share(count: int, possible: int, of: int, method: Method, *, away: int = 0) -> Share:
    if of == 0:
        return Share(count=0, possible=0, of=0, of_least=0, share=None, low=None, high=None)
    interval = library("statsmodels.stats.proportion").proportion_confint
    alpha = 1 - method.confidence
    return Share(
        count=count,
        possible=possible,
        of=of,
        of_least=of - away,
        share=count / of,
        low=float(interval(count, of, alpha=alpha, method="beta")[0]),
        high=float(interval(possible, max(1, of - away), alpha=alpha, method="beta")[1]),
    )


def _noise(repeats: Sequence[Item], method: Method) -> Noise:
    true = [item for item in repeats if item.truth]
    differing = sum(item.same is False for item in repeats)
    unsaid = sum(item.same is None for item in repeats)
    known = [item for item in true if item.before is not None and item.after is not None]
    flipped = sum(item.before is not item.after for item in known)
    return Noise(
        repeats=len(repeats),
        differing=_share(differing, differing + unsaid, len(repeats), method),
        flipped=_share(flipped, flipped + len(true) - len(known), len(true), method),
    )


def _paired(pairs: Sequence[_Pair], baseline: Literal["control", "decision"], method: Method) -> Paired:
    seen = [pair.against() for pair in pairs]
    gained, lost = seen.count((True, False)), seen.count((False, True))
    both_right, both_wrong = seen.count((True, True)), seen.count((False, False))
    return Paired(
        baseline=baseline,
        pairs=len(pairs),
        open=_unsaid(pairs),
        both_right=both_right,
        gained=gained,
        lost=lost,
        both_wrong=both_wrong,
        p_value=_p_value(seen) if pairs else None,
        gain=_gain(pairs, method) if pairs else None,
    )


def _unsaid(pairs: Sequence[_Pair]) -> int:
    return sum(pair.after is None or pair.base is None for pair in pairs)


def _p_value(seen: Sequence[tuple[bool, bool]]) -> float:
    mcnemar = library("statsmodels.stats.contingency_tables").mcnemar
    rows = [[seen.count((after, base)) for base in (True, False)] for after in (True, False)]
    return min(1.0, float(mcnemar(rows, exact=True).pvalue))


def _gain(pairs: Sequence[_Pair], method: Method) -> Gain:
    against, favour = [pair.against() for pair in pairs], [pair.in_favour() for pair in pairs]
    low = _bootstrap(against, method)
    high = low if favour == against else _bootstrap(favour, method)
    why = None
    if low is None or high is None:
        why = (
            "Every pair shows the same difference, so that no resampling shows another one."
            if len(pairs) >= _FEWEST
            else "One pair cannot be resampled."
        )
    return Gain(
        gain=_mean_gain(against),
        possible=_mean_gain(favour),
        low=None if low is None or high is None else low[0],
        high=None if low is None or high is None else high[1],
        why_no_interval=why,
    )


def _mean_gain(seen: Sequence[tuple[bool, bool]]) -> float:
    return (sum(after for after, _ in seen) - sum(base for _, base in seen)) / len(seen)


def _bootstrap(seen: Sequence[tuple[bool, bool]], method: Method) -> tuple[float, float] | None:
    """The interval of the mean difference; None where every difference is the same."""
    # In a fixed order, so that the interval depends on what was seen and not on who came first. Pairs are
    # drawn, and of a pair the difference is all that counts.
    differences = np.array(sorted(after - base for after, base in seen), dtype=float)
    if len(seen) < _FEWEST or np.ptp(differences) == 0:
        return None
    found = library("scipy.stats").bootstrap(
        (differences,),
        np.mean,
        vectorized=True,
        n_resamples=method.resamples,
        batch=max(1, _BATCH_VALUES // len(seen)),
        confidence_level=method.confidence,
        method="BCa",
        rng=np.random.default_rng(method.seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _conclusion(pairs: Sequence[_Pair], paired: Paired, method: Method) -> Conclusion:
    against, favour = [pair.against() for pair in pairs], [pair.in_favour() for pair in pairs]
    if pairs:
        gained, lost = against.count((True, False)), against.count((False, True))
        p_value = _p_value(against)
        if gained > lost and p_value < method.alpha:
            return _said("better", f"{gained} gained and {lost} lost: exact McNemar p = {p_value:.3g}.")
        gained, lost = favour.count((True, False)), favour.count((False, True))
        p_value = _p_value(favour)
        if lost > gained and p_value < method.alpha:
            return _said("worse", f"{lost} lost and {gained} gained: exact McNemar p = {p_value:.3g}.")
    wanted, planned_for = _plan(paired, method)
    if wanted is not None and wanted <= len(pairs) and not _unsaid(pairs):
        return _said(
            "no_difference",
            f"{len(pairs)} pairs show {planned_for} with a probability of {method.power:.0%}; there is none.",
        )
    have = f"{len(pairs)} corrected decision{'' if len(pairs) == 1 else 's'}"
    if wanted is None:
        return _said("not_enough_data", f"{have} show no difference; no cohort of {MAX_PLANNED} would.")
    if wanted <= len(pairs):
        why = f"{have} would be enough, but {_unsaid(pairs)} of them failed or cannot be compared."
        return Conclusion(verdict="not_enough_data", why=why, more_needed=_unsaid(pairs))
    more = wanted - len(pairs)
    why = f"{have}: {more} more needed to see {planned_for} with a probability of {method.power:.0%}."
    return Conclusion(verdict="not_enough_data", why=why, more_needed=more)


def _said(verdict: Literal["better", "worse", "no_difference", "not_enough_data"], why: str) -> Conclusion:
    return Conclusion(verdict=verdict, why=why, more_needed=None)


def _plan(paired: Paired, method: Method) -> tuple[int | None, str]:
    """Pairs to plan for, and for which effect: the one seen, or the smallest that is worth finding."""
    total = max(1, paired.pairs)
    gained, lost = paired.gained / total, paired.lost / total
    if abs(gained - lost) >= method.smallest_gain:
        return needed(gained, lost, method), f"a difference of {abs(gained - lost):.1%}, as it was seen,"
    discordant = max(gained + lost, method.smallest_gain)
    gained, lost = (discordant + method.smallest_gain) / 2, (discordant - method.smallest_gain) / 2
    return needed(gained, lost, method), f"a difference of {method.smallest_gain:.1%}"


def _notes(items: Sequence[Item], repeats: Sequence[Item] | None, paired: Paired) -> list[str]:
    notes = []
    if repeats is None and paired.pairs:
        notes.append(
            "There is no control arm. Decisions that were chosen because they were wrong come out right more "
            "often when they are merely repeated; only a control arm tells that from an effect."
        )
    if repeats is not None:
        alone = {item.decision_id for item in items} - {item.decision_id for item in repeats}
        if alone:
            notes.append(f"{len(alone)} decisions have no repeat in the control arm.")
    open_items = sum(map(_open, items))
    if open_items:
        notes.append(
            f"{open_items} of {len(items)} items failed or cannot be compared. They stay in every "
            "denominator and count against the change."
        )
    return notes


def library(name: str) -> ModuleType:
    """A module of the extra ``experiments``.

    Raises:
        NotInstalled: it is not here.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"The statistics are computed with {name.partition('.')[0]}, which is not installed; "
            "install LoopGrid with its extra `experiments`."
        ) from error
