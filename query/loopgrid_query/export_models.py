"""The shapes of exports in the API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from loopgrid_query.models import Request


class ExportStandingRequest(Request):
    """Which exported decisions to look at again."""

    decision_ids: list[Annotated[str, Field(pattern=r"^[0-9a-f]{32}-[0-9a-f]{16}$")]] = Field(
        min_length=1, max_length=1000
    )
    since_commit: int = Field(ge=0, lt=2**62, description="marks of later commits are counted")
    policy: Literal["latest", "majority", "adjudicated"] = "latest"


class ExportStandingItem(BaseModel):
    """What one decision rests on now."""

    decision_id: str
    correction_id: str | None = Field(description="the correction that is its ground truth now")
    corrected_by: str | None
    marks: int = Field(description="marks since the commit")
    withdrawn: list[str] = Field(
        description="marks and corrections of before the commit that were withdrawn since"
    )


class ExportStanding(BaseModel):
    """What decisions rest on now."""

    ledger_id: str
    items: list[ExportStandingItem]
