"""Which decisions a queue asks about: chosen once, by SQL that the same seed repeats, and then on record."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

from loopgrid_query import filters
from loopgrid_query.errors import FieldError, Invalid, Malformed
from loopgrid_query.queries import Reader
from loopgrid_query.review_models import METADATA, SampleGiven

_SEED_BYTES: Final = 8
_WITHOUT: Final = frozenset({"limit", "cursor"})
_DEFAULT_CONFIDENCE: Final = "metadata.confidence"
_NO_BOUND: Final = 1e308


def choose(reader: Reader, given: Mapping[str, Any], sample: SampleGiven) -> tuple[list[str], dict[str, Any]]:
    """The decisions to ask about, and how they were chosen.

    Args:
        reader: reads the ledger.
        given: filters by name, as a list of decisions takes them.
        sample: how to choose among what they find.

    Returns:
        Decision ids in the order they are asked about, and the JSON object that is recorded about the choice.

    Raises:
        Invalid: a filter is unknown, or does not fit; or no decision was found.
    """
    selection = selection_of(given, "filters", "a queue; its size is sample.size")
    parameters = {**selection.parameters, "size": sample.size}
    chosen: dict[str, Any] = {"filters": dict(given), "method": sample.method, "size": sample.size}
    _only_for("by", sample.by, sample.method, "stratified")
    _only_for("confidence", sample.confidence, sample.method, "low_confidence")
    _only_for("below", sample.below, sample.method, "low_confidence")
    if sample.method in {"random", "stratified", "disagreement"}:
        chosen["seed"] = parameters["seed"] = sample.seed or secrets.token_hex(_SEED_BYTES)
    elif sample.seed is not None:
        raise Invalid.of([FieldError("sample.seed", f"{sample.method} draws nothing; leave it out")])
    if sample.method == "stratified":
        if sample.by is None:
            raise Invalid.of([FieldError("sample.by", "is missing: the field whose values make the groups")])
        chosen["by"] = parameters["by"] = sample.by
        parameters["fact"] = _pointer([sample.by.removeprefix(METADATA)])
    if sample.method == "low_confidence":
        place = sample.confidence or _DEFAULT_CONFIDENCE
        part, _, path = place.partition(".")
        chosen["confidence"], chosen["below"] = place, sample.below
        # A fact's key may hold dots; a member of an output is reached through them.
        steps = [path] if part == "metadata" else path.split(".")
        bound = _NO_BOUND if sample.below is None else sample.below
        parameters |= {"part": part, "pointer": _pointer(steps), "below": bound}
    rows = reader.rows(f"review_sample_{sample.method}", parameters, conditions=selection.conditions)
    if not rows:
        raise Invalid(
            f"No decision fits the filters and the sample method {sample.method}; no queue was made."
        )
    chosen["found"] = rows[0]["found"]
    return [row["decision_id"] for row in rows], chosen


def selection_of(given: Mapping[str, Any], where: str, of_what: str) -> filters.Selection:
    """Filters that a request gives by name.

    Args:
        given: as a list of decisions takes them.
        where: the field that holds them, for messages.
        of_what: what they are for, for messages.

    Raises:
        Invalid: one is unknown, or does not fit.
    """
    faults = [
        FieldError(f"{where}.{name}", f"has no meaning for {of_what}") for name in given if name in _WITHOUT
    ]
    if faults:
        raise Invalid.of(faults)
    try:
        return filters.select((name, _word(value)) for name, value in given.items())
    except Malformed as error:
        named = [
            FieldError(f"{where}.{fault.field}", fault.message, fault.suggestion) for fault in error.errors
        ]
        raise Invalid.of(named) from error


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _only_for(name: str, value: object, method: str, wanted: str) -> None:
    if value is not None and method != wanted:
        raise Invalid.of([FieldError(f"sample.{name}", f"belongs to the method {wanted}, not {method}")])


def _pointer(steps: list[str]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
