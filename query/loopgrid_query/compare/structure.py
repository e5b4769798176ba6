"""The structural difference of two JSON values, by JSON pointer. Pure.

Laws, which a property test holds:

* A value has no difference from itself.
* Left with every ``changed`` and ``added`` value put at its path, and every ``removed`` path taken out from
  the last one to the first, is right.

Lists are compared place by place: an item put in at the front moves all that follow.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from loopgrid_query.compare.equality import ABSENT, EXACT, pointer

MAX_PLACES: Final = 1000
"""Places that one structural difference tells; what differs in more is as good as different altogether."""

Operation = dict[str, Any]
_Step = str | int
Path: TypeAlias = "tuple[Path, _Step] | None"
"""A place as a link to the one above it: deep and wide content would fill the memory with whole paths."""


def structural(left: Any, right: Any) -> tuple[list[Operation], bool]:
    """What must happen to left for it to become right, in document order.

    Returns:
        Objects with ``op`` (``added``, ``removed``, ``changed``), ``path`` (JSON pointer), and ``left`` and
        ``right`` where that side has something there; and whether these are all, not only the first
        ``MAX_PLACES``.
    """
    found: list[Operation] = []
    waiting: list[tuple[Path, Any, Any]] = [(None, left, right)]
    while waiting:
        path, one, other = waiting.pop()
        below = _below(one, other)
        if below is not None:
            waiting.extend(((path, step), pair[0], pair[1]) for step, pair in reversed(below))
            continue
        operation = _operation(path, one, other)
        if operation is None:
            continue
        if len(found) == MAX_PLACES:
            return found, False
        found.append(operation)
    return found, True


def steps_of(path: Path) -> tuple[_Step, ...]:
    """The steps of a linked path, from the whole to the place."""
    steps: list[_Step] = []
    while path is not None:
        path, step = path
        steps.append(step)
    return tuple(reversed(steps))


def _below(one: Any, other: Any) -> list[tuple[_Step, tuple[Any, Any]]] | None:
    """The places one level down, where both are objects or both are lists."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = dict.fromkeys([*one, *other])
        return [(name, (one.get(name, ABSENT), other.get(name, ABSENT))) for name in names]
    if isinstance(one, list) and isinstance(other, list):
        length = max(len(one), len(other))
        padded = [[*side, *[ABSENT] * (length - len(side))] for side in (one, other)]
        return list(enumerate(zip(*padded, strict=True)))
    return None


def _operation(steps: Path, one: Any, other: Any) -> Operation | None:
    path = pointer(steps_of(steps))
    if one is ABSENT:
        return None if other is ABSENT else {"op": "added", "path": path, "right": other}
    if other is ABSENT:
        return {"op": "removed", "path": path, "left": one}
    if EXACT.equal(one, other):
        return None
    return {"op": "changed", "path": path, "left": one, "right": other}
