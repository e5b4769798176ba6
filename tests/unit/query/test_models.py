"""The API's shapes: requests that say what is wrong, answers that follow the schema."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from loopgrid.schema import FIELDS
from loopgrid_query import models, replay_models
from loopgrid_query.records import decision_record

WHOLE_DECISION = {
    "decision_type": "t",
    "input": {"a": 1},
    "output": None,
    "model": {"provider": "p", "name": "n", "response_name": "r", "parameters": {"temperature": 0}},
    "prompt": {"name": "n", "version": "1", "template": "t", "variables": {"a": "b"}},
    "usage": {"input_tokens": 1, "output_tokens": 0},
    "finish_reasons": ["stop"],
    "error": {"type": "E", "message": "m"},
    "tags": ["a"],
    "metadata": {"k": {"n": [1]}},
    "started_at": "2026-03-01T10:00:00Z",
    "duration_ms": 1,
    "decision_id": "1" * 32 + "-" + "2" * 16,
}


def first_error(model: type[BaseModel], data: dict[str, Any]) -> Any:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(data)
    return refused.value.errors()[0]


def nested(model: type[BaseModel]) -> set[str]:
    """Dotted paths of a decision model's members."""
    paths = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            paths |= {f"{name}.{below}" for below in nested(inner)}
        else:
            paths.add(name)
    return paths


def test_the_decision_in_an_answer_has_exactly_the_fields_of_the_schema():
    assert nested(models.Decision) == {field.path for field in FIELDS}


def test_a_row_of_the_view_becomes_the_decision_in_an_answer():
    row = dict.fromkeys((field.column for field in FIELDS), None)
    record = decision_record(row)

    assert {
        f"{name}.{inner}" if isinstance(value, dict) else name
        for name, value in record.items()
        for inner in (value if isinstance(value, dict) else [""])
    } == {field.path for field in FIELDS}


def test_what_can_be_recorded_is_part_of_the_decision():
    def leaves(model: type[BaseModel]) -> set[str]:
        found = set()
        for name, field in model.model_fields.items():
            shapes = [arg for arg in getattr(field.annotation, "__args__", ()) if isinstance(arg, type)]
            inner = next((shape for shape in shapes if issubclass(shape, models.Request)), None)
            found |= {f"{name}.{below}" for below in leaves(inner)} if inner else {name}
        return found

    assert leaves(models.DecisionRequest) <= {field.path for field in FIELDS}


def test_a_whole_decision_is_accepted_as_it_is():
    request = models.DecisionRequest.model_validate(WHOLE_DECISION)

    assert models.given(request.usage) == {"input_tokens": 1, "output_tokens": 0}


@pytest.mark.parametrize(
    ("data", "suggestion"),
    [
        ({"decision_type": "t", "outputs": 1}, "output"),
        ({"decision_type": "t", "model": {"names": "x"}}, "name"),
        ({"decision_type": "t", "usage": {"input_token": 1}}, "input_tokens"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest(data, suggestion):
    error = first_error(models.DecisionRequest, data)

    assert error["type"] == models.UNKNOWN_FIELD
    assert error["ctx"]["suggestion"] == suggestion


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"decision_type": ""}, ("decision_type",)),
        ({"decision_type": "  "}, ("decision_type",)),
        ({"decision_type": 3}, ("decision_type",)),
        ({"usage": {"input_tokens": -1}}, ("usage", "input_tokens")),
        ({"usage": {"input_tokens": 2**63}}, ("usage", "input_tokens")),
        ({"usage": {"input_tokens": True}}, ("usage", "input_tokens")),
        ({"usage": {"input_tokens": "3"}}, ("usage", "input_tokens")),
        ({"prompt": {"version": 1}}, ("prompt", "version")),
        ({"duration_ms": -0.1}, ("duration_ms",)),
        ({"duration_ms": float("inf")}, ("duration_ms",)),
        ({"started_at": "2026-03-01"}, ("started_at",)),
        ({"started_at": 1_700_000_000}, ("started_at",)),
        ({"started_at": "1970-01-01T00:00:00Z"}, ("started_at",)),
        ({"decision_id": "1" * 32 + "-" + "G" * 16}, ("decision_id",)),
        ({"decision_id": "0" * 32 + "-" + "1" * 16}, ("decision_id",)),
        ({"tags": "a"}, ("tags",)),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_where_it_stands(changed, place):
    assert first_error(models.DecisionRequest, {**WHOLE_DECISION, **changed})["loc"] == place


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (models.MarkRequest, {}),
        (models.MarkRequest, {"reason": " "}),
        (models.CorrectionRequest, {"patch": [], "corrected_by": "a"}),
        (replay_models.ReplayRequest, {"decision_id": "x"}),
        (replay_models.ReplayRequest, {"decision_id": WHOLE_DECISION["decision_id"], "overrides": None}),
        (models.SqlRequest, {"query": ""}),
        (models.SqlRequest, {"query": "FROM decisions", "parameters": "x"}),
    ],
)
def test_a_request_that_lacks_what_it_needs_is_refused(model, data):
    assert first_error(model, data)


def test_null_is_a_correction_like_any_other():
    request = models.CorrectionRequest.model_validate({"correction": None, "corrected_by": "a"})

    assert request.correction is None
