"""The shape of a comparison in the API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from loopgrid_query.models import Decision, GroundTruth, Replay


class TextChange(BaseModel):
    """A piece of a text difference."""

    op: str = Field(description="`equal`, `delete` or `insert`")
    text: str


class Difference(BaseModel):
    """One place where the outputs of decision, replay and correction are not the same."""

    path: str = Field(description="JSONPath into the output", examples=["$.response"])
    decision: Any
    replay: Any
    correction: Any
    absent: list[str] = Field(description="which of the three have nothing at this place (shown as null)")
    text: list[TextChange] | None = Field(
        description="from the decision's text to the replay's, word by word; null where either is no text, "
        "or they are too long"
    )
    text_to_correction: list[TextChange] | None = Field(
        description="from the replay's text (the decision's, where there is none) to the correction's"
    )


class Change(BaseModel):
    """One part of the record, other than the output, that differs between decision and replay."""

    path: str = Field(examples=["prompt.template"])
    decision: Any
    replay: Any
    overridden: bool = Field(description="the overrides ask for it")


class Sameness(BaseModel):
    """Who agrees with whom, by the equality asked for; null where nobody can say."""

    outputs: bool | None = Field(description="left and right with each other")
    left: bool | None = Field(description="left with the correction")
    right: bool | None = Field(description="right with the correction")


class Place(BaseModel):
    """One place where two values differ. A side that has nothing there has no member here."""

    op: str = Field(description="`added`, `removed` or `changed`, on the way from left to right")
    path: str = Field(
        description="JSON pointer (RFC 6901); the empty text is the whole", examples=["/action"]
    )
    left: Any = None
    right: Any = None


class OutputDifference(BaseModel):
    """How two outputs differ, whatever the equality."""

    structure: list[Place]
    text: str | None = Field(
        description="unified difference of the outputs as text; null where they are equal"
    )


class FieldDifference(BaseModel):
    """A name or version that differs."""

    field: str
    left: str | None
    right: str | None


class PromptDifference(BaseModel):
    """How two prompts differ."""

    fields: list[FieldDifference]
    template: str | None = Field(description="unified difference; null where it is the same")
    rendered: str | None = Field(description="the same, with the variables filled in")
    variables: list[Place]


class Alignment(BaseModel):
    """Two lists put beside each other: messages, or tool calls with name and arguments."""

    unchanged: int
    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    changed: list[dict[str, Any]]


class Measure(BaseModel):
    """A number of both sides."""

    left: float | None
    right: float | None
    difference: float | None = Field(description="right less left; null where either is not known")


class Comparison(BaseModel):
    """A decision beside a replay of it, or beside another decision, and the human correction.

    `left` is the decision, `right` is `result`.
    """

    verdict: str = Field(
        description="`fixed`, `still_wrong`, `newly_broken`, `changed`, `unchanged` or `not_comparable`"
    )
    why: str
    equality: dict[str, Any] = Field(
        description="when outputs counted as equal", examples=[{"text": "exact"}]
    )
    agreement: Sameness
    decision: Decision  # type: ignore[valid-type]  # made at run time from the schema
    replay: Replay | None = Field(description="null where two decisions are compared")
    result: Decision | None = Field(  # type: ignore[valid-type]  # made at run time from the schema
        description="what the replay led to, or the other decision"
    )
    ground_truth: GroundTruth | None
    overrides: dict[str, Any] | None
    differences: list[Difference]
    changes: list[Change]
    output_diff: OutputDifference | None
    correction_diff: OutputDifference | None = Field(description="from the right output to the correction")
    prompt_diff: PromptDifference | None
    message_diff: Alignment | None = Field(description="of the input; null where it holds no messages")
    tool_call_diff: Alignment | None = Field(description="null where no tool was called")
    measures: dict[str, Measure] | None = Field(
        description="`duration_ms`, tokens by kind, and `cost_usd`", examples=[{}]
    )
    notes: list[str] = Field(description="what was not compared, and why")
