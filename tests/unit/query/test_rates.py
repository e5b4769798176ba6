"""How many requests one caller may make."""

from __future__ import annotations

from loopgrid_query.rates import MAX_CALLERS, Rates


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_burst_passes_and_then_the_rate_holds():
    clock = Clock()
    rates = Rates(2.0, 3, clock)

    assert [rates.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.25
    assert rates.wait_s("a") == 0.25
    clock.now += 0.25
    assert [rates.wait_s("a") for _ in range(2)] == [0, 0.5]


def test_a_refused_request_costs_nothing():
    clock = Clock()
    rates = Rates(1.0, 1, clock)
    rates.wait_s("a")

    assert [rates.wait_s("a") for _ in range(5)] == [1] * 5
    clock.now += 1
    assert rates.wait_s("a") == 0


def test_a_pause_saves_no_more_than_a_burst():
    clock = Clock()
    rates = Rates(10.0, 2, clock)
    clock.now += 3600

    assert [rates.wait_s("a") > 0 for _ in range(3)] == [False, False, True]


def test_callers_do_not_share_a_rate():
    rates = Rates(1.0, 1, Clock())

    assert [rates.wait_s(caller) for caller in ("a", "b", "a")] == [0, 0, 1]


def test_without_a_burst_one_second_of_the_rate_may_come_at_once():
    rates = Rates(3.0, 0, Clock())
    slow = Rates(0.1, 0, Clock())

    assert [rates.wait_s("a") > 0 for _ in range(4)] == [False, False, False, True]
    assert [slow.wait_s("a") for _ in range(2)] == [0, 10]


def test_no_rate_is_no_limit():
    rates = Rates(0.0, 1, Clock())

    assert {rates.wait_s("a") for _ in range(1000)} == {0}


def test_callers_beyond_a_number_are_forgotten():
    rates = Rates(1.0, 1, Clock())
    for number in range(MAX_CALLERS + 1):
        rates.wait_s(str(number))

    assert rates.wait_s(str(MAX_CALLERS)) == 1
    assert rates.wait_s("0") == 0
