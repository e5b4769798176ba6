"""Whether what is behind a model's name has moved: the record held against two unchanged repeats of it. Pure.

If nothing has moved, the record and the two repeats are three draws of one thing, and where exactly one of
them differs from the other two it is the record one time in three. More than that is not noise. Decisions of
which all three agree, or all three differ, say nothing either way.

Apart from that, providers tell which model answered. Where that name is another one now, it has moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from loopgrid_query.replay.statistics import library

LEVEL: Final = 0.01
"""Probability of calling noise a move, at most."""
_BY_CHANCE: Final = 1 / 3


@dataclass(frozen=True, slots=True)
class Repeated:
    """One decision that was repeated twice, unchanged.

    Attributes:
        first: whether the first repeat has the recorded output; None where nobody can say.
        second: likewise, of the second.
        repeats: whether the repeats have the same output; likewise.
        recorded_model: the model that the provider said had answered, on record; None where it said nothing.
        served_models: those that answered the repeats.
    """

    first: bool | None
    second: bool | None
    repeats: bool | None
    recorded_model: str | None = None
    served_models: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Drift:
    """What the repeats of a cohort say.

    Attributes:
        items: decisions.
        unknown: those of which a repeat failed or cannot be compared.
        differing: those whose first repeat differs from the record: noise and drift together.
        noisy: those whose repeats differ from each other: noise alone.
        record_apart: those whose repeats agree with each other and not with the record.
        repeat_apart: those of which one repeat differs from the other and from the record.
        p_value: probability of so many of the former, or more, if nothing has moved; 1 where there is none.
        renamed: pairs of a model name on record and the one that answers now, with how many decisions.
        moved: whether it has moved; None where nobody can say.
        why: in a sentence.
    """

    items: int
    unknown: int
    differing: int
    noisy: int
    record_apart: int
    repeat_apart: int
    p_value: float
    renamed: tuple[tuple[str, str, int], ...]
    moved: bool | None
    why: str


def drift(repeated: Iterable[Repeated]) -> Drift:
    """What the repeats of a cohort say.

    Raises:
        NotInstalled: SciPy is not here.
    """
    found = list(repeated)
    known = [each for each in found if None not in (each.first, each.second, each.repeats)]
    apart = sum(bool(each.repeats) and not each.first for each in known)
    odd = sum(bool(each.first) != bool(each.second) for each in known)
    p_value = 1.0
    if apart + odd:
        test = library("scipy.stats").binomtest(apart, apart + odd, _BY_CHANCE, alternative="greater")
        p_value = float(test.pvalue)
    renamed = Counter(
        (each.recorded_model, served)
        for each in found
        for served in {name for name in each.served_models if name}
        if each.recorded_model and served != each.recorded_model
    )
    names = tuple((was, now, count) for (was, now), count in renamed.most_common())
    moved, why = _conclusion(len(found), len(known), p_value, names)
    return Drift(
        items=len(found),
        unknown=len(found) - len(known),
        differing=sum(each.first is False for each in known),
        noisy=sum(each.repeats is False for each in known),
        record_apart=apart,
        repeat_apart=odd,
        p_value=p_value,
        renamed=names,
        moved=moved,
        why=why,
    )


def _conclusion(
    items: int, known: int, p_value: float, renamed: tuple[tuple[str, str, int], ...]
) -> tuple[bool | None, str]:
    if renamed:
        was, now, count = renamed[0]
        what = "decision was" if count == 1 else "decisions were"
        return True, f"{count} {what} answered by {was}, and by {now} now."
    if p_value <= LEVEL:
        return True, "The repeats agree with each other against the record more often than noise explains."
    if known * 2 <= items:
        return None, f"Only {known} of {items} decisions can be compared: see what failed, and repeat them."
    return False, "The repeats differ from the record no more than noise explains."
