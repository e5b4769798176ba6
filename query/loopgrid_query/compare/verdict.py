"""Whether two sides can be compared at all, and what the comparison comes to. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from loopgrid import judgement
from loopgrid.judgement import Judgement
from loopgrid_query.compare.equality import ABSENT, EXACT, Equality, at, same

MAX_COMPARED_CHARS: Final = 4 * 2**20
"""Characters of JSON text that are looked into; of anything larger only the digest is compared."""

_LOSSES: Final = frozenset({"truncated", "redacted", "redaction_failed", "incomplete"})
"""Ways of losing a part of an output that make it no output to judge by."""
_WHOLE_LOSSES: Final = frozenset({"masked:output", "elsewhere:output", "incomplete_stream"})
_CUT_KEY: Final = re.compile(r"\.\.\.|…")


class Large(dict[str, Any]):
    """In place of a value that is too large to be looked into: its length and digest."""

    @classmethod
    def of(cls, text: str) -> Large:
        """What stands for a JSON text."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return cls({"$large": {"chars": len(text), "sha256": digest}})


@dataclass(frozen=True, slots=True)
class Side:
    """One of two decisions that are compared.

    Attributes:
        output: what was decided; ``ABSENT`` where that is not on record.
        failure: how it failed; None where it did not.
        lossiness: what is known to be missing from its record.
        marked: whether somebody marked it incorrect.
    """

    output: Any
    failure: str | None = None
    lossiness: tuple[str, ...] = ()
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison comes to.

    Attributes:
        judgement: in one word.
        why: in one sentence.
        outputs: whether the outputs equal each other; None where nobody can say.
        left: whether the left one equals the ground truth; None where nobody can say.
        right: whether the right one does.
    """

    judgement: Judgement
    why: str
    outputs: bool | None = None
    left: bool | None = None
    right: bool | None = None

    def agreement(self) -> dict[str, bool | None]:
        """Who agrees with whom, as part of an answer."""
        return {"outputs": self.outputs, "left": self.left, "right": self.right}


def judge(
    left: Side,
    right: Side | None,
    truth: Any = ABSENT,
    *,
    equality: Equality = EXACT,
    sides: tuple[str, str] = judgement.REPLAY,
    nothing: str = "There is nothing to compare with.",
) -> Verdict:
    """What the comparison of two sides comes to. Total: whatever was recorded, it gives one verdict.

    Args:
        left: the decision.
        right: its replay, or another decision; None where nothing ran to an end.
        truth: the output that is right; ``ABSENT`` where there is none.
        equality: when two outputs count as equal.
        sides: what to call them.
        nothing: why there is no right side.
    """
    if right is None:
        return Verdict(Judgement.NOT_COMPARABLE, nothing)
    for name, side in zip(sides, (left, right), strict=True):
        fault = _fault(name, side, equality.fields)
        if fault is not None:
            return Verdict(Judgement.NOT_COMPARABLE, fault)
    present = [left.output, right.output] + ([] if truth is ABSENT else [truth])
    large = [value for value in present if isinstance(value, Large)]
    if large and not all(same(value, large[0]) for value in present):
        return Verdict(
            Judgement.NOT_COMPARABLE,
            f"An output is longer than {MAX_COMPARED_CHARS} characters and not the same text as the others; "
            "it was not looked into.",
        )
    unknown = [] if large else _nowhere(present, equality.fields)
    if unknown:
        return Verdict(Judgement.NOT_COMPARABLE, f"No output has anything at {', '.join(unknown)}.")
    rule = EXACT if large else equality
    outputs = rule.equal(left.output, right.output)
    agree = None if truth is ABSENT else (rule.equal(left.output, truth), rule.equal(right.output, truth))
    said, why = judgement.judge(sides, same=outputs, left_right=agree, marked=left.marked)
    return Verdict(said, why, outputs, *(agree or (None, None)))


def why_nothing(replay: Mapping[str, Any]) -> str:
    """Why a replay that has not completed cannot be compared.

    Args:
        replay: with ``status`` and ``reason``.
    """
    if replay["status"] == "failed" and replay["reason"]:
        return f"The replay failed: {replay['reason']}"
    reasons = {
        "refused": "The replay was refused, nothing ran.",
        "pending": "The replay has not run yet.",
        "cancelled": "The replay was cancelled.",
        "failed": "The replay failed, so it has no output to compare.",
    }
    said = reasons.get(replay["status"], "The replay has no result.")
    return f"{said} {replay['reason']}" if replay["reason"] else said


def _fault(name: str, side: Side, fields: tuple[str, ...]) -> str | None:
    """Why a side cannot be compared; None where it can."""
    if side.failure is not None:
        return f"The {name} failed: {side.failure}"
    if side.output is ABSENT:
        return f"The {name} has no output on record."
    lost = next((entry for entry in side.lossiness if _matters(entry, fields)), None)
    return None if lost is None else f"The {name}'s output is not whole ({lost})."


def _matters(entry: str, fields: tuple[str, ...]) -> bool:
    """Whether an entry of ``lossiness`` speaks of a part of the output that counts."""
    if entry in _WHOLE_LOSSES:
        return True
    if re.match(r"output[.\[:]", entry) is None:
        return False
    where, lost = _split(entry)
    if lost is None:
        return False
    if not fields or _CUT_KEY.search(where):
        return True
    place = _dotted(where)
    counted = [
        _dotted("output" + field.replace("/", ".").replace("~1", "/").replace("~0", "~")) for field in fields
    ]
    return any(place.startswith(field) or field.startswith(place) for field in counted)


def _dotted(path: str) -> str:
    """A path with a dot for each way of writing a step, so that one is the beginning of what is inside it."""
    return re.sub(r"[\[\].]+", ".", f"{path}.")


def _split(entry: str) -> tuple[str, str | None]:
    """Where something was lost, and how; None where it was not lost in a way that counts."""
    found = re.search(rf":({'|'.join(sorted(_LOSSES))})(?::|$)", entry)
    return (entry, None) if found is None else (entry[: found.start()], found[1])


def _nowhere(outputs: list[Any], fields: tuple[str, ...]) -> list[str]:
    """Fields that no output has: most likely misspelt, and equal everywhere if they counted."""
    return [field for field in fields if all(at(output, field) is ABSENT for output in outputs)]
