"""The numbers of an arm: against published examples, and laws that hold whatever the items are."""

from __future__ import annotations

import math
import random
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_query.compare import equality
from loopgrid_query.errors import Invalid, NotInstalled
from loopgrid_query.replay.statistics import item_of, needed, power, statistics
from loopgrid_query.report_models import Item, ItemOutcome, Method

QUICK = Method(resamples=199)


def item(number: int, before: bool | None, after: bool | None, *, failed: bool = False) -> Item:
    """A corrected decision whose outcome follows from what is known."""
    if failed or before is None or after is None:
        outcome = ItemOutcome.FAILED if failed else ItemOutcome.NOT_COMPARABLE
    else:
        outcome = {
            (False, True): ItemOutcome.FIXED,
            (False, False): ItemOutcome.STILL_WRONG,
            (True, False): ItemOutcome.NEWLY_BROKEN,
            (True, True): ItemOutcome.UNCHANGED,
        }[before, after]
    return Item(
        decision_id=f"d{number:05}",
        outcome=outcome,
        truth=True,
        before=before,
        after=None if failed else after,
    )


def table(both_right: int, gained: int, lost: int, both_wrong: int) -> list[Item]:
    """The arm of a fourfold table of pairs."""
    pairs = (
        [(True, True)] * both_right
        + [(False, True)] * gained
        + [(True, False)] * lost
        + [(False, False)] * both_wrong
    )
    return [item(number, *pair) for number, pair in enumerate(pairs)]


def without_truth(number: int, outcome: ItemOutcome) -> Item:
    return Item(decision_id=f"n{number:05}", outcome=outcome, truth=False)


@pytest.mark.parametrize(
    ("pairs", "p_value"),
    [
        # Armitage and Berry (1994), Statistical Methods in Medical Research, p. 127: two media, 50 specimens.
        ((20, 12, 2, 16), 0.0129),
        # Bentur et al. (2009), in Fagerland, Lydersen and Laake (2013), BMC Med Res Methodol 13:91, table 2.
        ((1, 1, 7, 12), 0.0703),
    ],
)
def test_exact_mcnemar_of_published_tables(pairs, p_value):
    found = statistics(table(*pairs), method=QUICK).paired

    assert found.p_value == pytest.approx(p_value, abs=5e-5)
    assert (found.both_right, found.gained, found.lost, found.both_wrong) == pairs


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 5 (Clopper-Pearson).
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_exact_intervals_of_published_shares(count, of, low, high):
    fixed = statistics(table(0, count, 0, of - count), method=QUICK).outcomes.fixed

    assert (fixed.count, fixed.of) == (count, of)
    assert fixed.low == pytest.approx(low, abs=5e-5)
    assert fixed.high == pytest.approx(high, abs=5e-5)


def test_power_of_the_published_example_of_paired_proportions():
    """O'Brien (2002, p. 161-163), repeated in the manual of G*Power 3.1: 50 pairs, shares of 0.08 and 0.32,
    one tail of 0.05. Power 0.839, actual level 0.0326."""
    assert power(50, 0.32, 0.08, 0.05) == pytest.approx(0.839, abs=5e-4)
    assert power(50, 0.2, 0.2, 0.05) == pytest.approx(0.0326, abs=5e-5)


def test_the_exact_test_needs_a_few_more_pairs_than_connors_formula():
    """Connor (1987), Biometrics 43:207-211; for shares of 0.15 and 0.05 his formula gives 155 pairs."""
    discordant, difference = 0.15 + 0.05, 0.15 - 0.05
    connor = (
        1.959964 * discordant**0.5 + 0.841621 * (discordant - difference**2) ** 0.5
    ) ** 2 / difference**2

    assert math.ceil(connor) == 155
    assert connor <= (needed(0.15, 0.05, Method()) or 0) <= 1.15 * connor


def test_what_is_needed_is_the_least_that_is_enough():
    method = Method()
    pairs = needed(0.15, 0.05, method)

    assert pairs is not None
    assert power(pairs, 0.15, 0.05, method.alpha / 2) >= method.power
    assert power(pairs - 1, 0.15, 0.05, method.alpha / 2) < method.power


def test_failed_items_stay_in_every_denominator_and_count_against_the_change():
    arm = [*table(0, 8, 0, 2), *(item(100 + n, before=False, after=None, failed=True) for n in range(2))]
    found = statistics(arm, method=QUICK)

    fixed = found.outcomes.fixed
    assert (fixed.count, fixed.possible, fixed.of) == (8, 10, 12)
    assert fixed.share == 8 / 12
    assert (found.paired.gained, found.paired.both_wrong, found.paired.open) == (8, 4, 2)
    assert any("2 of 12 items failed" in note for note in found.notes)


def test_a_failed_repeat_of_the_control_arm_counts_against_the_change_too():
    arm = table(0, 3, 0, 0)
    control = [item(0, before=False, after=None, failed=True), *table(0, 0, 0, 3)[1:]]
    found = statistics(arm, control, QUICK).paired

    assert (found.baseline, found.both_right, found.gained, found.open) == ("control", 1, 2, 1)
    assert found.gain is not None
    assert (found.gain.gain, found.gain.possible) == (2 / 3, 1.0)


def test_the_control_arm_is_the_baseline_and_measures_the_noise():
    """Five of ten wrong decisions come right when they are merely repeated: as good as the change."""
    arm, control = table(0, 6, 0, 4), table(0, 5, 0, 5)
    for repeat in control:
        repeat.same = repeat.outcome is ItemOutcome.STILL_WRONG
    alone, beside = statistics(arm, method=QUICK), statistics(arm, control, QUICK)

    assert alone.conclusion.verdict == "better"
    assert "no control arm" in alone.notes[0]
    assert beside.conclusion.verdict == "not_enough_data"
    assert beside.noise is not None
    assert (beside.noise.differing.count, beside.noise.flipped.count, beside.noise.repeats) == (5, 5, 10)


def test_without_enough_data_there_is_no_winner_but_a_number():
    found = statistics(table(0, 2, 0, 1), method=QUICK).conclusion

    assert found.verdict == "not_enough_data"
    assert found.more_needed == (needed(2 / 3, 0, Method()) or 0) - 3
    assert f"{found.more_needed} more needed" in found.why


def test_a_winner_a_loser_and_no_difference_are_said_when_there_is_enough_data():
    same = statistics(table(1000, 0, 0, 0), method=QUICK).conclusion

    assert statistics(table(5, 9, 1, 5), method=QUICK).conclusion.verdict == "better"
    assert statistics(table(5, 1, 9, 5), method=QUICK).conclusion.verdict == "worse"
    assert (same.verdict, same.more_needed) == ("no_difference", None)


def test_open_pairs_make_no_loser_and_no_draw():
    lost = [item(n, before=True, after=None, failed=True) for n in range(9)]
    draw = statistics([*table(1000, 0, 0, 0), *(item(2000 + n, before=True, after=None) for n in range(3))])

    assert statistics(lost, method=QUICK).conclusion.verdict == "not_enough_data"
    assert (draw.conclusion.verdict, draw.conclusion.more_needed) == ("not_enough_data", 3)


def test_no_items_and_no_corrections_are_not_enough_data():
    for arm in ([], [without_truth(0, ItemOutcome.CHANGED), without_truth(1, ItemOutcome.FAILED)]):
        found = statistics(arm, method=QUICK)

        assert found.conclusion.verdict == "not_enough_data"
        assert found.conclusion.more_needed == 157
        assert (found.paired.p_value, found.paired.gain) == (None, None)
        assert found.outcomes.fixed.share is None


def test_the_interval_of_the_gain_is_the_same_in_every_order_and_other_seeds_give_another():
    arm = table(20, 12, 2, 16)
    shuffled = random.Random(1).sample(arm, len(arm))

    found = statistics(arm, method=Method(resamples=999)).paired.gain
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.gain == 0.2 < found.high
    assert statistics(shuffled, method=Method(resamples=999)).paired.gain == found
    assert statistics(arm, method=Method(resamples=101, seed=7)).paired.gain != found


def test_where_every_difference_is_the_same_no_interval_is_made_up():
    for arm in (table(0, 5, 0, 0), table(0, 1, 0, 0)):
        gain = statistics(arm, method=QUICK).paired.gain

        assert gain is not None
        assert (gain.gain, gain.low, gain.high) == (1.0, None, None)
        assert gain.why_no_interval


def test_a_decision_that_is_there_twice_is_refused():
    with pytest.raises(Invalid, match="d00000 is in the arm twice"):
        statistics([*table(1, 0, 0, 0), *table(1, 0, 0, 0)])
    with pytest.raises(Invalid, match="in the control arm twice"):
        statistics([], [*table(1, 0, 0, 0), *table(1, 0, 0, 0)])


@pytest.mark.parametrize("missing", ["statsmodels", "scipy"])
def test_without_the_libraries_the_sentence_names_the_extra(monkeypatch, missing):
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(NotInstalled, match=f"with {missing}.*extra `experiments`"):
        statistics(table(0, 2, 0, 1))


known = st.sampled_from([True, False, None])
arms = st.lists(st.tuples(known, known, st.booleans()), max_size=12)


@given(arms, st.one_of(st.none(), arms), st.randoms())
def test_denominators_ranges_and_order_whatever_happened(seen, repeated, chance):
    arm = [item(number, before, after, failed=failed) for number, (before, after, failed) in enumerate(seen)]
    arm.append(without_truth(0, ItemOutcome.CHANGED))
    control = None
    if repeated is not None:
        control = [
            item(n, before, after, failed=failed) for n, (before, after, failed) in enumerate(repeated)
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = statistics(arm, control, QUICK)

    truth = [one for one in arm if one.truth]
    assert found.outcomes.fixed.of == sum(one.before is not True for one in truth)
    assert found.outcomes.newly_broken.of == sum(one.before is not False for one in truth)
    assert found.outcomes.failed.of == len(arm)
    paired = found.paired
    assert paired.both_right + paired.gained + paired.lost + paired.both_wrong == paired.pairs == len(truth)
    for _, share in found.outcomes:
        assert 0 <= share.count <= share.possible <= share.of
        if share.share is not None:
            assert 0 <= share.low <= share.share <= share.possible / max(1, share.of_least) <= share.high <= 1
    if paired.gain is not None:
        assert -1 <= paired.gain.gain <= paired.gain.possible <= 1
    assert (found.conclusion.more_needed is None) == (found.conclusion.verdict != "not_enough_data")
    assert statistics(chance.sample(arm, len(arm)), control, QUICK) == found


@given(arms, st.data())
def test_whatever_an_open_item_turns_out_to_be_lies_in_the_range_that_was_told(seen, data):
    arm = [item(number, before, after, failed=failed) for number, (before, after, failed) in enumerate(seen)]
    told = statistics(arm, method=QUICK)
    settled = [
        item(
            number,
            data.draw(st.booleans()) if one.before is None else one.before,
            data.draw(st.booleans()) if one.after is None else one.after,
        )
        for number, one in enumerate(arm)
    ]
    turned_out = statistics(settled, method=QUICK)

    for name in ("fixed", "still_wrong", "newly_broken", "unchanged"):
        range_told, came = getattr(told.outcomes, name), getattr(turned_out.outcomes, name)
        assert range_told.count <= came.count <= range_told.possible
        if came.of:
            assert range_told.count / range_told.of <= came.share
            assert came.share <= range_told.possible / max(1, range_told.of_least)
    if told.paired.gain is not None and turned_out.paired.gain is not None:
        assert told.paired.gain.gain <= turned_out.paired.gain.gain <= told.paired.gain.possible


def record(output: object, **changes):
    """A decision as the API gives it, corrected to a refund."""
    return {
        "decision_id": "a-b",
        "status": "ok",
        "output": output,
        "lossiness": None,
        "incorrect": False,
        "error": {"type": None, "message": None},
        "ground_truth": {"output": {"action": "refund"}},
    } | changes


def replay(status: str = "completed"):
    return {"replay_id": "rpl_1", "status": status, "reason": None}


WRONG, RIGHT = {"action": "wait"}, {"action": "refund"}


@pytest.mark.parametrize("status", ["failed", "refused", "cancelled"])
def test_a_replay_that_did_not_run_to_an_end_is_failed_and_its_decision_was_wrong_all_the_same(status):
    found = item_of(record(WRONG), replay(status), None)

    assert (found.outcome, found.truth, found.before, found.after) == (ItemOutcome.FAILED, True, False, None)


def test_a_replay_that_failed_is_failed_although_it_led_to_a_decision():
    found = item_of(record(WRONG), replay("failed"), record(RIGHT))

    assert (found.outcome, found.after) == (ItemOutcome.FAILED, None)


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_replay_that_waits_or_runs_is_not_comparable(status):
    found = item_of(record(WRONG), replay(status), None)

    assert (found.outcome, found.before) == (ItemOutcome.NOT_COMPARABLE, False)


@pytest.mark.parametrize(
    "decision",
    [
        record(None),
        record(WRONG, status="error"),
        record(WRONG, error={"type": "TimeoutError", "message": None}),
        record(WRONG, lossiness=["output.action:truncated:9:sha256=00"]),
    ],
)
def test_of_a_decision_that_failed_or_is_not_whole_nobody_can_say_whether_it_was_right(decision):
    found = item_of(decision, replay(), record(RIGHT))

    assert (found.outcome, found.before, found.after) == (ItemOutcome.NOT_COMPARABLE, None, None)


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (WRONG, RIGHT, ItemOutcome.FIXED),
        (WRONG, WRONG, ItemOutcome.STILL_WRONG),
        (RIGHT, WRONG, ItemOutcome.NEWLY_BROKEN),
        (RIGHT, RIGHT, ItemOutcome.UNCHANGED),
    ],
)
def test_a_verdict_is_that_of_a_comparison(before, after, outcome):
    found = item_of(record(before), replay(), record(after))

    assert found.outcome is outcome
    assert (found.before, found.after, found.same) == (before is RIGHT, after is RIGHT, before is after)


def test_without_a_correction_outputs_are_held_against_each_other_by_the_equality_asked_for():
    left, right = record("Yes,  please", ground_truth=None), record("yes, please")
    loose = equality.parse({"text": "normalised", "ignore_case": True})

    assert item_of(left, replay(), right).outcome is ItemOutcome.CHANGED
    found = item_of(left, replay(), right, equality=loose)
    assert (found.outcome, found.truth, found.before) == (ItemOutcome.UNCHANGED, False, None)


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (None, RIGHT, ItemOutcome.FIXED),
        (RIGHT, None, ItemOutcome.NEWLY_BROKEN),
        (None, None, ItemOutcome.STILL_WRONG),
    ],
)
def test_an_output_of_null_is_an_output(before, after, outcome):
    found = item_of(record(before), replay(), record(after, decision_id="c-d"), nulls={"a-b", "c-d"})

    assert found.outcome is outcome
