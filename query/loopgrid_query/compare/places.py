"""Where a decision, its replay and the human correction differ, place by place. Pure."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from loopgrid_query.compare.equality import ABSENT as _ABSENT
from loopgrid_query.compare.equality import same
from loopgrid_query.compare.structure import Path, steps_of

MAX_DIFFERENCES: Final = 1000
"""Places a comparison tells; outputs that differ in more are as good as different altogether."""
MAX_WORD_PAIRS: Final = 4_000_000
"""Pairs of words that a comparison looks at: the effort of a text difference grows with the product
of both lengths, and a client chooses the texts."""
MAX_ALIKE_PAIRS: Final = 200_000
"""Pairs of equal words in two texts: where the same few words come again and again, the effort grows with
the cube of the length. Prose of 4,000 words has fewer."""

SIDES: Final = ("decision", "replay", "correction")
"""Whose outputs are compared."""

# Blanks belong to the word before them: on their own they would match each other everywhere.
_WORDS: Final = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FACTS: Final = ("input", "prompt", "model")

Step = str | int
Place = tuple[tuple[Step, ...], tuple[Any, ...]]


def differences(outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the outputs are not the same, by JSONPath, at most ``MAX_DIFFERENCES``.

    Args:
        outputs: output by side; a side that has none (no correction, no result) is left out.
    """
    sides = [side for side in SIDES if side in outputs]
    budget = [MAX_WORD_PAIRS]
    found: list[dict[str, Any]] = []
    for steps, values in _unlike(tuple(outputs[side] for side in sides)):
        if len(found) == MAX_DIFFERENCES:
            break
        here = {side: value for side, value in zip(sides, values, strict=True) if value is not _ABSENT}
        found.append(
            {
                "path": "$" + "".join(map(_written, steps)),
                **{side: here.get(side) for side in SIDES},
                "absent": [side for side in SIDES if side not in here],
                "text": _between(here, ("decision",), "replay", budget),
                "text_to_correction": _between(here, ("replay", "decision"), "correction", budget),
            }
        )
    return found


def changes(
    decision: Mapping[str, Any], result: Mapping[str, Any], overrides: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What else differs between a decision and the one its replay led to: input, prompt, model.

    Args:
        decision: the original.
        result: the replay's decision.
        overrides: what the replay was asked to change.
    """
    found: list[dict[str, Any]] = []
    for part in _FACTS:
        for steps, values in _unlike((decision[part], result[part])):
            before, after = (None if value is _ABSENT else value for value in values)
            if before is None and after is None:
                continue
            found.append(
                {
                    "path": part + "".join(map(_written, steps)),
                    "decision": before,
                    "replay": after,
                    "overridden": _reaches(overrides, (part, *steps)),
                }
            )
    return found


def text_difference(before: str, after: str) -> list[dict[str, str]]:
    """From one text to another, word by word: pieces that are equal, deleted or inserted."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    pieces: list[dict[str, str]] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for op, start, end, new_start, new_end in matcher.get_opcodes():
        if op != "insert":
            kept = "equal" if op == "equal" else "delete"
            pieces.append({"op": kept, "text": "".join(old[start:end])})
        if op in {"insert", "replace"}:
            pieces.append({"op": "insert", "text": "".join(new[new_start:new_end])})
    return pieces


def _between(
    here: Mapping[str, Any], sources: tuple[str, ...], target: str, budget: list[int]
) -> list[dict[str, str]] | None:
    """The text difference from the first source that is there; ``None`` where none can be told."""
    source = next((side for side in sources if side in here), None)
    if source is None or target not in here:
        return None
    before, after = here[source], here[target]
    if not isinstance(before, str) or not isinstance(after, str) or before == after:
        return None
    old, new = Counter(_WORDS.findall(before)), Counter(_WORDS.findall(after))
    alike = sum(count * new[word] for word, count in old.items())
    budget[0] -= old.total() * new.total()
    return text_difference(before, after) if budget[0] >= 0 and alike <= MAX_ALIKE_PAIRS else None


def _unlike(values: tuple[Any, ...]) -> Iterator[Place]:
    """Places at which the values are not all the same, in document order."""
    waiting: list[tuple[Path, tuple[Any, ...]]] = [(None, values)]
    while waiting:
        path, here = waiting.pop()
        # What only some sides have is told whole, not member by member.
        below = None if any(value is _ABSENT for value in here) else _members(here)
        if below is not None:
            waiting.extend(((path, step), inner) for step, inner in reversed(below))
        elif not all(same(here[0], value) for value in here[1:]):
            yield steps_of(path), here


def _members(here: tuple[Any, ...]) -> list[tuple[Step, tuple[Any, ...]]] | None:
    """The places one level down, where all values are objects, or all are lists."""
    if all(isinstance(value, dict) for value in here):
        names = dict.fromkeys(name for value in here for name in value)
        return [(name, tuple(value.get(name, _ABSENT) for value in here)) for name in names]
    if all(isinstance(value, list) for value in here):
        length = max(len(value) for value in here)
        return [(index, tuple(_at(value, index) for value in here)) for index in range(length)]
    return None


def _at(value: Any, index: int) -> Any:
    return _ABSENT if index >= len(value) else value[index]


def _written(step: Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _PLAIN_NAME.fullmatch(step):
        return f".{step}"
    quoted = step.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{quoted}']"


def _reaches(overrides: Mapping[str, Any], steps: tuple[Step, ...]) -> bool:
    """Whether the overrides speak of the place, of one above it, or of one below it."""
    here: Any = overrides
    for step in steps:
        if not isinstance(here, dict):
            return True
        if step not in here:
            return False
        here = here[step]
    return True
