"""What a comparison of two outputs comes to. Standard library only, and pure.

The server says it by the equality it is asked for, the client by a function of its caller's: one table for
both.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Judgement(StrEnum):
    """What became of a decision on the way from the left side to the right one."""

    FIXED = "fixed"
    STILL_WRONG = "still_wrong"
    NEWLY_BROKEN = "newly_broken"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    NOT_COMPARABLE = "not_comparable"


REPLAY: Final = ("decision", "replay")
DECISIONS: Final = ("left decision", "right decision")


def judge(
    sides: tuple[str, str],
    *,
    same: bool,
    left_right: tuple[bool, bool] | None,
    marked: bool = False,
) -> tuple[Judgement, str]:
    """The judgement of two outputs, and one sentence that says why.

    Args:
        sides: what to call them, ``REPLAY`` or ``DECISIONS``.
        same: whether the outputs equal each other; without ground truth nothing else counts.
        left_right: whether each of them equals the ground truth; None where there is none.
        marked: whether somebody marked the left side incorrect.
    """
    left, right = sides
    if left_right is None:
        rest = "; the decision is marked incorrect" if marked else ""
        rest += ". Without a correction nobody can say which is right."
        if same:
            return Judgement.UNCHANGED, f"The {right} gave the same output{rest}"
        return Judgement.CHANGED, f"The {right} gave another output{rest}"
    match left_right:
        case (False, True):
            return Judgement.FIXED, f"The {left} differed from the correction; the {right} equals it."
        case (False, False):
            return Judgement.STILL_WRONG, f"The {left} differed from the correction, and so does the {right}."
        case (True, False):
            return (
                Judgement.NEWLY_BROKEN,
                f"The {left} equalled the correction; the {right} differs from it.",
            )
        case _:
            return Judgement.UNCHANGED, f"{left.capitalize()} and {right} both equal the correction."
