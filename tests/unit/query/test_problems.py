"""Every error reaches the client as a problem document."""

from __future__ import annotations

import json

import pytest

from loopgrid_collector import errors as collector
from loopgrid_query import errors, problems
from loopgrid_query.errors import FieldError, QueryError
from loopgrid_query.nearest import did_you_mean, nearest


def descendants(kind: type[Exception]) -> list[type[Exception]]:
    return [below for child in kind.__subclasses__() for below in (child, *descendants(child))]


@pytest.mark.parametrize("kind", descendants(QueryError) + descendants(collector.CollectorError))
def test_every_error_has_a_status(kind):
    assert problems.kind_of(kind("what happened")).status >= 400


@pytest.mark.parametrize("kind", descendants(collector.Retryable))
def test_what_may_be_sent_again_is_503(kind):
    assert problems.kind_of(kind("x")).status == 503


def test_a_problem_says_what_and_where_and_what_would_be_right():
    faults = [FieldError("model.names", "there is no such field", "name"), FieldError("x", "is missing")]
    answer = problems.problem(problems.KINDS[errors.Invalid], "detail", faults, {"Retry-After": "1"})

    assert answer.media_type == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:loopgrid:problem:invalid",
        "title": "The request cannot be carried out",
        "status": 422,
        "detail": "detail",
        "errors": [
            {"field": "model.names", "message": "there is no such field", "suggestion": "name"},
            {"field": "x", "message": "is missing"},
        ],
    }


def test_several_faults_read_as_sentences():
    error = QueryError.of([FieldError("a", "is missing"), FieldError("b", "did you mean 'c'?")])

    assert str(error) == "a: is missing. b: did you mean 'c'?"


def test_the_nearest_name_is_found_in_any_case_and_nothing_is_made_up():
    assert nearest("Service-Name", ["service_name", "status"]) == "service_name"
    assert nearest("zzz", ["service_name", "status"]) is None
    assert did_you_mean("zzz", ["b", "a"]) == "known are: a, b"
