"""Each kind of refusal has one row, and a sender is told to resend exactly when that can help."""

from __future__ import annotations

import inspect

import pytest

from loopgrid_collector import errors
from loopgrid_collector.receivers import status

KINDS = [
    kind
    for module in (errors, status)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, errors.CollectorError)
]


@pytest.mark.parametrize(
    ("kind", "code", "http"),
    [
        (errors.Undecodable, 3, 400),
        (errors.UnsupportedCoding, 3, 400),
        (errors.UnsupportedType, 3, 415),
        (errors.TooLarge, 8, 413),
        (status.UnknownPath, 12, 404),
        (status.MethodNotAllowed, 12, 405),
        (errors.Overloaded, 14, 503),
        (errors.StorageTrouble, 14, 503),
        (errors.ShuttingDown, 14, 503),
        (status.SlowSender, 14, 503),
        (errors.LedgerShorter, 14, 503),
    ],
)
def test_each_refusal_has_its_codes(kind, code, http):
    told = status.verdict(kind("why"))

    assert (told.code, told.http, told.message) == (code, http, "why")


@pytest.mark.parametrize("kind", KINDS)
def test_a_delay_is_told_exactly_when_the_codes_mean_resend(kind):
    told = status.verdict(kind("why"))

    assert (told.retry_after_s is not None) == (told.http == 503) == (told.code is status.Code.UNAVAILABLE)
    assert told.retry_after_s is None or told.retry_after_s >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_the_collector_raises_on_purpose_is_a_500(kind):
    assert status.verdict(kind("why")).http != 500


def test_a_permanent_refusal_is_never_told_to_resend():
    assert all(
        status.verdict(kind("why")).retry_after_s is None
        for kind in KINDS
        if issubclass(kind, errors.Permanent)
    )


def test_a_delay_is_in_whole_seconds_and_never_shorter_than_asked():
    class Later(errors.Retryable):
        retry_after_s = 2.1

    assert status.verdict(Later("why")).retry_after_s == 3


def test_a_bug_is_internal_and_its_text_stays_inside():
    told = status.verdict(KeyError("a customer's words"))

    assert (told.code, told.http, told.retry_after_s) == (13, 500, None)
    assert "customer" not in told.message
