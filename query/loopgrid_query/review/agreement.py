"""How far reviewers agree: kappas of statsmodels, alpha of the package krippendorff. Pure.

Both libraries come with the extra ``review`` and are imported when first needed.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np

from loopgrid_query.errors import NotInstalled

MAX_PAIRS: Final = 50
"""Pairs of reviewers for which Cohen's kappa is told."""
MAX_FIELDS: Final = 100
MAX_TOLD: Final = 50
ABSENT: Final = "(absent)"
_FEWEST: Final = 2

Ratings = Mapping[str, Mapping[str, str]]
"""What each rater said of an item, by item and rater."""


@dataclass(frozen=True, slots=True)
class Said:
    """One reviewer's answer to an item.

    Attributes:
        item: id of the decision.
        rater: the reviewer.
        verdict: ``correct``, ``incorrect`` or ``corrected``.
        stands_for: the output that the reviewer holds for right, as a JSON value; None where it is not known.
        known: whether it is.
    """

    item: str
    rater: str
    verdict: str
    stands_for: Any = None
    known: bool = False


def agreement(answers: Sequence[Said]) -> dict[str, Any]:
    """Agreement on the verdict, and on every field of the outputs that reviewers stand for.

    A corrected decision counts as incorrect. A field is a member of an object, by JSON pointer; lists are
    compared as a whole. An item enters the fields where two or more reviewers gave or confirmed an object.

    Raises:
        NotInstalled: the statistics libraries are not here.
    """
    verdicts: dict[str, dict[str, str]] = {}
    outputs: dict[str, dict[str, dict[str, str]]] = {}
    for said in answers:
        verdicts.setdefault(said.item, {})[said.rater] = (
            "correct" if said.verdict == "correct" else "incorrect"
        )
        if said.known and isinstance(said.stands_for, dict):
            outputs.setdefault(said.item, {})[said.rater] = dict(_leaves(said.stands_for, ""))
    by_field: dict[str, dict[str, dict[str, str]]] = {}
    for item, raters in outputs.items():
        if len(raters) < _FEWEST:
            continue
        for name in {name for leaves in raters.values() for name in leaves}:
            by_field.setdefault(name, {})[item] = {
                rater: leaves.get(name, ABSENT) for rater, leaves in raters.items()
            }
    kept = sorted(by_field)[:MAX_FIELDS]
    return {
        "verdict": measures(verdicts),
        "fields": {name: measures(by_field[name]) for name in kept},
        "fields_left_out": len(by_field) - len(kept),
    }


def measures(ratings: Ratings) -> dict[str, Any]:
    """Every measure of one question that several raters answered about several items.

    Args:
        ratings: what each said, by item and rater. Items with fewer than two ratings are left out.

    Raises:
        NotInstalled: the statistics libraries are not here.
    """
    statistics, alpha = _library("statsmodels.stats.inter_rater"), _library("krippendorff")
    rated = {item: said for item, said in ratings.items() if len(said) >= _FEWEST}
    raters = sorted({rater for said in rated.values() for rater in said})
    words = Counter(word for said in rated.values() for word in said.values())
    return {
        "items": len(rated),
        "raters": len(raters),
        "ratings": dict(sorted(words.items())) if len(words) <= MAX_TOLD else {},
        "raw_agreement": _raw(rated, len(raters)),
        "cohens_kappa": _cohen(statistics, rated, raters),
        "fleiss_kappa": _fleiss(statistics, rated, len(raters)),
        "krippendorff_alpha": _alpha(alpha, rated, len(raters)),
    }


def _raw(rated: Ratings, raters: int) -> dict[str, Any]:
    """The share of pairs of answers to the same item that are the same."""
    pairs = same = 0
    for said in rated.values():
        count = len(said)
        pairs += count * (count - 1) // 2
        same += sum(times * (times - 1) // 2 for times in Counter(said.values()).values())
    if pairs == 0:
        return _undefined("no item was rated by two or more", 0, raters)
    return _told(same / pairs, len(rated), raters)


def _cohen(statistics: ModuleType, rated: Ratings, raters: Sequence[str]) -> list[dict[str, Any]]:
    """Cohen's kappa of each pair of raters, over the items that both rated."""
    told = []
    for pair in itertools.islice(itertools.combinations(raters, 2), MAX_PAIRS):
        one, other = pair
        both = [(said[one], said[other]) for said in rated.values() if one in said and other in said]
        words = sorted({word for couple in both for word in couple})
        if not both:
            found = _undefined("no item was rated by both", 0, _FEWEST)
        elif len(words) == 1:
            found = _undefined(_ONE_WORD, len(both), _FEWEST)
        else:
            place = {word: number for number, word in enumerate(words)}
            table = np.zeros((len(words), len(words)))
            for first, second in both:
                table[place[first], place[second]] += 1
            value = statistics.cohens_kappa(table, return_results=False)
            found = _told(float(value), len(both), _FEWEST)
        told.append({"reviewers": list(pair), **found})
    return told


def _fleiss(statistics: ModuleType, rated: Ratings, raters: int) -> dict[str, Any]:
    """Fleiss' kappa over items of the most common number of ratings: it is defined for one number only."""
    sizes = Counter(len(said) for said in rated.values())
    if not sizes:
        return _undefined("no item was rated by two or more", 0, raters)
    size = max(sizes, key=lambda one: (sizes[one], one))
    same = [said for said in rated.values() if len(said) == size]
    return _counted(same, size, statistics.fleiss_kappa)


def _alpha(library: ModuleType, rated: Ratings, raters: int) -> dict[str, Any]:
    """Krippendorff's alpha for nominal values; it allows for items that not everybody rated."""
    if not rated:
        return _undefined("no item was rated by two or more", 0, raters)
    return _counted(
        list(rated.values()),
        raters,
        lambda counts: library.alpha(value_counts=counts, level_of_measurement="nominal"),
    )


def _counted(
    items: Sequence[Mapping[str, str]], raters: int, measure: Callable[[Any], float]
) -> dict[str, Any]:
    words = sorted({word for said in items for word in said.values()})
    if len(words) == 1:
        return _undefined(_ONE_WORD, len(items), raters)
    place = {word: number for number, word in enumerate(words)}
    counts = np.zeros((len(items), len(words)), dtype=np.int64)
    for number, said in enumerate(items):
        for word in said.values():
            counts[number, place[word]] += 1
    return _told(float(measure(counts)), len(items), raters)


_ONE_WORD: Final = "everybody said the same of every item, so that agreement by chance is certain, too"


def _told(value: float, items: int, raters: int) -> dict[str, Any]:
    if not math.isfinite(value):
        return _undefined("the measure is not defined for these answers", items, raters)
    return {"value": value, "reason": None, "items": items, "raters": raters}


def _undefined(reason: str, items: int, raters: int) -> dict[str, Any]:
    return {"value": None, "reason": reason, "items": items, "raters": raters}


def _leaves(value: Mapping[str, Any], path: str) -> Iterable[tuple[str, str]]:
    for name, member in value.items():
        place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if isinstance(member, dict) and member:
            yield from _leaves(member, place)
        else:
            yield place, json.dumps(member, sort_keys=True, ensure_ascii=False)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"Agreement is computed with {name.partition('.')[0]}, which is not installed on the server; "
            "install LoopGrid with its extra `review` there."
        ) from error
