"""No subject of an export stands on both sides."""

from __future__ import annotations

from datetime import datetime

import pytest

from loopgrid_query.exports.messages import Unfit
from loopgrid_query.exports.splits import TEST, TRAIN, Rule

NOON = datetime(2026, 3, 1, 12)  # noqa: DTZ001 - as the ledger stores times


def row(number=0, session_id=None, user_id=None, started_at=NOON, *, straddles=False):
    return {
        "decision_id": f"{number:032x}-{number:016x}",
        "session_id": session_id,
        "user_id": user_id,
        "started_at": started_at,
        "straddles": straddles,
    }


def test_a_subject_has_one_side_whatever_else_a_decision_says():
    rule = Rule(test_share=0.5)

    for number in range(50):
        sides = {rule.side(row(other, session_id=f"s{number}", user_id=f"u{other}")) for other in range(5)}
        assert len(sides) == 1


def test_the_share_of_subjects_for_testing_is_about_what_was_asked():
    rule = Rule(test_share=0.2)
    testing = sum(rule.side(row(number)) == TEST for number in range(5000))

    assert 850 < testing < 1150
    assert all(Rule().side(row(number)) == TRAIN for number in range(10))
    assert all(Rule(test_share=1.0).side(row(number)) == TEST for number in range(10))


def test_another_salt_divides_otherwise():
    sides = [[Rule(0.5, salt).side(row(number)) for number in range(64)] for salt in ("a", "b")]

    assert sides[0] != sides[1]


def test_by_time_a_subject_that_goes_on_after_the_split_is_left_out_before_it():
    rule = Rule(split_at=NOON)
    before = datetime(2026, 3, 1, 11)  # noqa: DTZ001 - as the ledger stores times

    assert rule.side(row()) == TEST
    assert rule.side(row(straddles=True)) == TEST
    assert rule.side(row(started_at=before)) == TRAIN
    with pytest.raises(Unfit, match="subject_continues_after_split"):
        rule.side(row(started_at=before, straddles=True))
    with pytest.raises(Unfit, match="no_start_time"):
        rule.side(row(started_at=None))
