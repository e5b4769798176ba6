"""Whether what is behind a model's name has moved: claims about numbers, checked by chance itself."""

from __future__ import annotations

import random

import pytest

from loopgrid_query.replay.drift import LEVEL, Repeated, drift

SAME = Repeated(first=True, second=True, repeats=True)
RECORD_APART = Repeated(first=False, second=False, repeats=True)
FIRST_APART = Repeated(first=False, second=True, repeats=False)
ALL_DIFFER = Repeated(first=False, second=False, repeats=False)
FAILED = Repeated(first=None, second=True, repeats=None)


def drawn(draw: random.Random, noise: float, moved: float) -> Repeated:
    """A decision of a model that says another word with some probability, and that has moved with another."""

    def says(word: str) -> str:
        return str(draw.random()) if draw.random() < noise else word

    record, now = says("a"), "b" if draw.random() < moved else "a"
    first, second = says(now), says(now)
    return Repeated(first=first == record, second=second == record, repeats=first == second)


def test_a_model_that_says_the_same_has_not_moved():
    found = drift([SAME] * 20)

    assert (found.moved, found.differing, found.noisy, found.p_value) == (False, 0, 0, 1.0)


def test_repeats_that_agree_against_the_record_are_a_move():
    found = drift([SAME] * 20 + [RECORD_APART] * 5)

    assert found.moved is True
    assert found.p_value == pytest.approx((1 / 3) ** 5)
    assert (found.differing, found.noisy, found.record_apart) == (5, 0, 5)


def test_noise_is_none_however_much_of_it_there_is():
    found = drift([RECORD_APART] * 10 + [FIRST_APART] * 20 + [ALL_DIFFER] * 50)

    assert found.moved is False
    assert (found.differing, found.noisy, found.repeat_apart) == (80, 70, 20)


def test_where_nothing_has_moved_it_says_so_but_for_one_time_in_a_hundred():
    draw = random.Random(7)
    moved = [drift(drawn(draw, 0.3, 0.0) for _ in range(60)).moved for _ in range(1000)]

    assert moved.count(True) <= 2 * LEVEL * len(moved)


def test_a_move_of_a_fifth_is_found_in_the_same_noise():
    draw = random.Random(8)
    moved = [drift(drawn(draw, 0.3, 0.4) for _ in range(100)).moved for _ in range(100)]

    assert moved.count(True) >= 80


def test_another_name_that_answers_is_a_move_although_all_say_the_same():
    now = Repeated(True, True, True, recorded_model="m-1", served_models=("m-2", "m-2"))
    found = drift([now] * 3 + [Repeated(True, True, True, "m-1", ("m-1", None))])

    assert (found.moved, found.renamed) == (True, (("m-1", "m-2", 3),))
    assert "by m-1, and by m-2 now" in found.why


def test_where_half_of_them_failed_nobody_can_say():
    found = drift([SAME] * 2 + [FAILED] * 2)

    assert (found.moved, found.unknown) == (None, 2)
    assert drift([]).moved is None
