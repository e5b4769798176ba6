"""Replays, read from a server and held against the corrections: a few requests for many."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from loopgrid import LoopGrid
from loopgrid_query.cli.errors import CliError
from loopgrid_query.compare import Equality
from loopgrid_query.queries import load_queries
from loopgrid_query.replay.statistics import item_of
from loopgrid_query.report_models import Item

BATCH: Final = 200
"""Decisions that are asked for, and held in memory, at once."""
_LATEST: Final = "latest"
"""The policy by which decisions show their ground truth."""


class Held:
    """The replays of one check.

    Attributes:
        items: what became of each, in the order of the ids.
        changes: every override set there is among them, as JSON.
    """

    def __init__(self, items: Sequence[Item], changes: Iterable[str]) -> None:
        self.items = list(items)
        self.changes = set(changes)


def held(
    grid: LoopGrid,
    replay_ids: Sequence[str],
    equality: Equality,
    policy: str | None = None,
    done: Callable[[int], None] = lambda _count: None,
) -> Held:
    """What became of each replay.

    Args:
        grid: where they are.
        replay_ids: the replays.
        equality: when outputs count as equal.
        policy: which correction is the ground truth: ``latest`` by default, ``majority`` or ``adjudicated``.
        done: is told how many more are done.

    Raises:
        CliError: there is no such replay.
        LoopGridError: the server does not answer, or refuses.
    """
    items, changes = [], set()
    for start in range(0, len(replay_ids), BATCH):
        batch = replay_ids[start : start + BATCH]
        rows = list(_rows(grid, batch))
        nulls = nulls_of(grid, (each for row in rows for each in (row[0], row[2])))
        for decision, replay, result in rows:
            changes.add(json.dumps(replay["overrides"], sort_keys=True))
            judged = decision
            if policy not in {None, _LATEST}:
                found = grid.compare(decision["decision_id"], replay["replay_id"], policy=policy)
                judged = {**decision, "ground_truth": found["ground_truth"]}
            items.append(item_of(judged, replay, result, equality=equality, nulls=nulls))
        done(len(batch))
    return Held(items, changes)


_Row = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any] | None]
"""A decision, a replay of it, and the decision that the replay led to."""


def nulls_of(grid: LoopGrid, read: Iterable[Mapping[str, Any] | None]) -> set[str]:
    """Those decisions of which nothing is shown as output, and whose output on record is JSON's null."""
    empty = sorted({each["decision_id"] for each in read if each is not None and each["output"] is None})
    if not empty:
        return set()
    found = grid.sql(load_queries()["null_outputs"].sql, {"decision_ids": empty})
    return {decision_id for (decision_id,) in found["rows"]}


def _rows(grid: LoopGrid, replay_ids: Sequence[str]) -> Iterator[_Row]:
    """Each replay with the decision it replays and the one it led to."""
    replayed = dict(_replayed(grid, replay_ids))
    for replay_id in replay_ids:
        if replay_id not in replayed:
            raise CliError(f"there is no replay {replay_id}; write the ids as create_replay gives them.")
    decisions = decisions_of(grid, replayed.values())
    replays = {
        replay["replay_id"]: replay for decision in decisions.values() for replay in decision["replays"]
    }
    results = decisions_of(
        grid, (found for each in replay_ids if (found := replays[each]["result_decision_id"]) is not None)
    )
    for replay_id in replay_ids:
        replay = replays[replay_id]
        yield decisions[replayed[replay_id]], replay, results.get(replay["result_decision_id"])


def _replayed(grid: LoopGrid, replay_ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    rows = grid.sql(load_queries()["replays_named"].sql, {"replay_ids": list(replay_ids)})["rows"]
    yield from ((replay_id, decision_id) for replay_id, decision_id in rows)


def decisions_of(grid: LoopGrid, decision_ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Decisions by their ids; those that are none on record are left out."""
    asked = sorted(set(decision_ids))
    found = grid.get_decisions(asked).decisions if asked else []
    return {decision["decision_id"]: decision for decision in found}
