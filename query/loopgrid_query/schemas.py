"""JSON Schemas of the decision record, of every event, every request and every report. Pure.

They stand in ``docs/spec/schemas/`` and at ``/schemas/``; both are what ``documents`` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import BaseModel, Field, create_model

from loopgrid_query import (
    comparison_models,
    experiment_models,
    judgement_models,
    models,
    price_models,
    replay_models,
    review_models,
)
from loopgrid_query.report_models import GateReport

MEDIA_TYPE: Final = "application/schema+json"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ID_PREFIX: Final = "urn:loopgrid:schema:"
FOLDER: Final = "/schemas/"
"""Where they are served; a schema's file is its name and ``.json``."""


class SchemaEntry(BaseModel):
    """One of the schemas."""

    name: str = Field(examples=["mark"])
    describes: str = Field(description="`record`, `event`, `request` or `report`")
    title: str
    description: str
    url: str = Field(description="path on this server", examples=["/schemas/mark.json"])


class SchemaIndex(BaseModel):
    """Every schema there is."""

    items: list[SchemaEntry]


def _event(word: str, meaning: str) -> type[BaseModel]:
    """One kind of what people say: a judgement that says which."""
    kind: Any = (Literal[word], Field(description="which kind of judgement this is"))
    made: type[BaseModel] = create_model(
        word.title(), __base__=judgement_models.Judgement, __doc__=meaning, event=kind
    )
    return made


RECORDS: Final[Mapping[str, type[BaseModel]]] = {
    "decision": models.Decision,
    "decision_whole": models.DecisionWhole,
    "trace": models.Trace,
    "ground_truth": models.GroundTruth,
    "comparison": comparison_models.Comparison,
    "history": judgement_models.History,
    "problem": models.Problem,
}
"""What the ledger is asked for."""

EVENTS: Final[Mapping[str, type[BaseModel]]] = {
    "mark": _event("mark", "Somebody said that a decision was incorrect."),
    "approval": _event("approval", "Somebody said that a decision was correct."),
    "correction": _event("correction", "Somebody said which output would have been right."),
    "agreement": _event("agreement", "Somebody agreed with what somebody else had said."),
    "dispute": _event("dispute", "Somebody disputed what somebody else had said."),
    "withdrawal": _event(
        "withdrawal", "What was said was taken back; it stays on record and counts no more."
    ),
    "adjudication": _event("adjudication", "Somebody said which correction stands."),
    "outcome": models.Outcome,
    "replay": models.Replay,
    "review": review_models.Review,
    "review_claim": review_models.Claimed,
    "review_answer": review_models.Answered,
    "review_item": review_models.ReviewItem,
    "cohort": experiment_models.Cohort,
    "experiment": experiment_models.Experiment,
    "experiment_item": experiment_models.ExperimentItem,
    "schedule": experiment_models.Schedule,
    "key": models.ApiKey,
    "price": price_models.Price,
    "price_book": price_models.PriceBookMade,
}
"""What is appended about decisions, as it is answered."""

REQUESTS: Final[Mapping[str, type[BaseModel]]] = {
    "decision_request": models.DecisionRequest,
    "mark_request": models.MarkRequest,
    "correction_request": models.CorrectionRequest,
    "approval_request": judgement_models.ApprovalRequest,
    "stance_request": judgement_models.StanceRequest,
    "withdrawal_request": judgement_models.WithdrawalRequest,
    "adjudication_request": judgement_models.AdjudicationRequest,
    "outcome_request": judgement_models.OutcomeRequest,
    "replay_request": replay_models.ReplayRequest,
    "compare_request": models.CompareRequest,
    "review_request": review_models.ReviewRequest,
    "review_answer_request": review_models.AnswerRequest,
    "cohort_request": experiment_models.CohortRequest,
    "experiment_request": experiment_models.ExperimentRequest,
    "experiment_resume_request": experiment_models.ExperimentResume,
    "schedule_request": experiment_models.ScheduleRequest,
    "key_request": models.KeyRequest,
    "price_book_request": price_models.PriceBookRequest,
    "sql_request": models.SqlRequest,
}
"""What a client sends."""

REPORTS: Final[Mapping[str, type[BaseModel]]] = {"gate_report": GateReport}
"""What a command writes into a file."""

_GROUPS: Final = {"record": RECORDS, "event": EVENTS, "request": REQUESTS, "report": REPORTS}


@cache
def documents() -> Mapping[str, Mapping[str, Any]]:
    """Every schema by its name, complete in itself."""
    found: dict[str, Mapping[str, Any]] = {}
    for group in _GROUPS.values():
        for name, model in group.items():
            head = {"$schema": DIALECT, "$id": ID_PREFIX + name}
            found[name] = MappingProxyType(head | model.model_json_schema())
    return MappingProxyType(found)


def index() -> SchemaIndex:
    """What there is, with where it is served."""
    return SchemaIndex(
        items=[
            SchemaEntry(
                name=name,
                describes=describes,
                title=documents()[name]["title"],
                description=documents()[name]["description"],
                url=f"{FOLDER}{name}.json",
            )
            for describes, group in _GROUPS.items()
            for name in group
        ]
    )
