"""Every part of a comparison of two decisions, as the answer shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loopgrid_query.compare import content
from loopgrid_query.compare.equality import ABSENT, same
from loopgrid_query.compare.verdict import MAX_COMPARED_CHARS, Large

_MEASURES: Final = (
    ("duration_ms",),
    ("usage", "input_tokens"),
    ("usage", "output_tokens"),
    ("usage", "cache_read_tokens"),
    ("usage", "cache_write_tokens"),
    ("usage", "reasoning_tokens"),
    ("cost_usd",),
)


@dataclass(frozen=True, slots=True)
class Around:
    """What a decision's own span does not say.

    Attributes:
        rendered: its prompt with the variables filled in; None where that is not recorded.
        tools: the tools that ran inside it, in order, each with ``name`` and ``arguments``.
    """

    rendered: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()


def parts(
    left: Mapping[str, Any],
    right: Mapping[str, Any] | None,
    truth: Any = ABSENT,
    around: tuple[Around, Around] = (Around(), Around()),
) -> dict[str, Any]:
    """What differs between two decisions; every part is None where there is nothing to put beside each other.

    Args:
        left: a decision record, parsed.
        right: the other one; None where nothing ran.
        truth: the output that is right.
        around: what is known of the spans around both.
    """
    notes: content.Notes = []
    told: dict[str, Any] = dict.fromkeys(
        ("output_diff", "correction_diff", "prompt_diff", "message_diff", "tool_call_diff", "measures")
    )
    decided = left if right is None else right
    if truth is not ABSENT:
        told["correction_diff"] = _outputs(decided["output"], truth, "Correction", notes)
    if right is not None:
        told["output_diff"] = _outputs(left["output"], right["output"], "Output", notes)
        rendered = (around[0].rendered, around[1].rendered)
        told["prompt_diff"] = content.prompts(left["prompt"], right["prompt"], rendered, notes)
        if _looked_into("Input", (left["input"], right["input"]), notes):
            told["message_diff"] = content.messages(left["input"], right["input"], notes)
        called = _calls(left, around[0]), _calls(right, around[1])
        told["tool_call_diff"] = content.tool_calls(called[0], called[1], notes)
        told["measures"] = _measures(left, right)
    return {**told, "notes": notes}


def _calls(side: Mapping[str, Any], around: Around) -> Sequence[Mapping[str, Any]]:
    """The tools that ran, or else those that the model asked for."""
    return around.tools or content.calls_of(side["output"])


def _outputs(left: Any, right: Any, what: str, notes: content.Notes) -> dict[str, Any] | None:
    if not _looked_into(what, (left, right), notes):
        return None
    return {
        "structure": content.structure(left, right, what, notes),
        "text": None if same(left, right) else content.unified(left, right, what, notes),
    }


def _looked_into(what: str, values: tuple[Any, Any], notes: content.Notes) -> bool:
    """Whether both values are small enough; where they are not, a note says what was done instead."""
    if not any(isinstance(value, Large) for value in values):
        return True
    digests = "are the same" if same(*values) else "differ"
    notes.append(
        f"{what}: longer than {MAX_COMPARED_CHARS} characters; no difference was made. The digests {digests}."
    )
    return False


def _measures(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    told = {}
    for path in _MEASURES:
        one, other = _at(left, path), _at(right, path)
        difference = None if one is None or other is None else other - one
        told[path[-1]] = {"left": one, "right": other, "difference": difference}
    return told


def _at(record: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    here: Any = record
    for step in path:
        here = here[step]
    return here
