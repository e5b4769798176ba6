"""An experiment under way, in memory: what was asked for, what is open, what may be asked for next. Pure.

Laws:

* An item is asked for once: its replay's id follows from the experiment, the arm and the decision.
* What is open counts against the budget with what it is expected to need, so that no number of calls at once
  can use more than the budget.
* Failed and refused items stay items.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from loopgrid_query import ids
from loopgrid_query.experiments.estimates import Need, Sum

CHANGE: Final = "change"
CONTROL: Final = "control"
MAX_FAILED_IN_A_ROW: Final = 25
"""Items that may fail one after the other, none completing between them, before the experiment stops."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item: one decision in one arm."""

    arm: str
    decision_id: str
    replay_id: str


def items_of(experiment_id: str, members: Sequence[str], control_share: float) -> list[Wanted]:
    """The items of an experiment, in the order in which they are asked for: each decision in both arms.

    Args:
        experiment_id: the experiment.
        members: its cohort.
        control_share: share of the cohort that the control arm repeats.
    """
    controls = set(
        sorted(members, key=lambda each: hashlib.sha256(f"{experiment_id}:{each}".encode()).digest())[
            : math.ceil(control_share * len(members))
        ]
    )
    return [
        Wanted(arm, decision_id, ids.item_replay_id(experiment_id, arm, decision_id))
        for decision_id in members
        for arm in (CHANGE, CONTROL)
        if arm == CHANGE or decision_id in controls
    ]


@dataclass(slots=True)
class Run:
    """One experiment under way.

    Attributes:
        experiment_id: which.
        body: as it was asked for.
        budget: what it may use at most, by ``calls``, ``tokens`` and ``usd``.
        items: what it consists of.
        by: who asked.
        next: the first item that was not looked at yet.
        known: replays that were asked for before.
        retries: failed replays that are to run once more.
        open: what is under way, with what it is expected to need.
        answered: of these, those that have run and are being recorded.
        interrupted: of these, those that the end of another server may have interrupted.
        counts: settled items by status.
        used: what settled items have used.
        unread: results whose usage was not read yet, with what they were expected to need.
        failed_in_a_row: see ``MAX_FAILED_IN_A_ROW``.
        stopping: why nothing more is asked for; None while it goes on.
        cancelled: whether somebody ended it.
        rate: when it began here, by the runner's clock, and how many have settled since.
    """

    experiment_id: str
    body: Mapping[str, Any]
    budget: Mapping[str, Any]
    items: Sequence[Wanted]
    by: str | None
    next: int = 0
    known: set[str] = field(default_factory=set)
    retries: deque[str] = field(default_factory=deque)
    open: dict[str, Need | None] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    interrupted: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    used: Sum = field(default_factory=Sum)
    unread: dict[str, Need | None] = field(default_factory=dict)
    failed_in_a_row: int = 0
    last_failure: str | None = None
    stopping: str | None = None
    cancelled: bool = False
    began_s: float = 0.0
    settled_here: int = 0

    @property
    def free(self) -> int:
        """How many more may be under way: what is being recorded takes no place, up to as many again."""
        most = int(self.body["concurrency"])
        return max(0, min(most - len(self.open) + len(self.answered), 2 * most - len(self.open)))

    @property
    def finished(self) -> bool:
        """Whether everything was asked for and nothing is open."""
        left = any(item.replay_id not in self.known for item in self.items[self.next :])
        return not self.open and not self.retries and not left

    def settle(self, replay_id: str, status: str, result_id: str | None = None) -> bool:
        """Take note that an item has ended; false where it is none that is open.

        Args:
            replay_id: its replay.
            status: what the replay is now.
            result_id: the decision that it may have led to.
        """
        if replay_id not in self.open:
            return False
        need = self.open.pop(replay_id)
        self.answered.discard(replay_id)
        if result_id is not None:
            self.unread[result_id] = need
        self.counts[status] += 1
        self.settled_here += 1
        if replay_id in self.interrupted:
            # That they failed says nothing about those to come.
            self.interrupted.remove(replay_id)
            return True
        self.failed_in_a_row = self.failed_in_a_row + 1 if status == "failed" else 0
        if self.failed_in_a_row >= MAX_FAILED_IN_A_ROW and self.stopping is None:
            self.stopping = (
                f"the last {self.failed_in_a_row} items all failed; see why (its items), and resume it with "
                "retry_failed"
            )
        return True

    def upcoming(self, most: int) -> list[Wanted]:
        """The next items that were not asked for; taken from what is left."""
        found: list[Wanted] = []
        while len(found) < most and self.next < len(self.items):
            item = self.items[self.next]
            self.next += 1
            if item.replay_id not in self.known:
                found.append(item)
        return found

    def give_back(self, items: Sequence[Wanted]) -> None:
        """Items of ``upcoming`` that were not asked for after all."""
        if items:
            first = items[0]
            self.next = next(place for place in range(self.next - 1, -1, -1) if self.items[place] is first)

    def allows(self, need: Need) -> bool:
        """Whether the budget has room for one more; says why in ``stopping`` where it has not.

        Where nothing is known of what an item needs, it goes alone: what it used is known before the next.
        """
        expected = self._expected(need)
        if (self._limits_tokens and expected.tokens is None) or (
            "usd" in self.budget and expected.cost_usd is None
        ):
            return not self.open and not self.unread
        opened = [self._expected(each or Need()) for each in (*self.open.values(), *self.unread.values())]
        under_way = [_amounts(each) for each in opened]
        uses = {"calls": self.used.calls, "tokens": self.used.tokens, "usd": self.used.cost_usd}
        for name, most in self.budget.items():
            used, more = uses[name], _amounts(expected)[name]
            if used + sum(each[name] for each in under_way) + more > most:
                if not self.open and not self.unread:
                    self.stopping = (
                        f"the budget of {most:g} {name} does not reach for another item: {used:g} are used, "
                        f"and it would need about {more:g}; resume it with a larger one"
                    )
                return False
        return True

    @property
    def unpriced(self) -> str | None:
        """Why a budget in dollars cannot be kept; None where it can."""
        if "usd" in self.budget and self.used.unpriced:
            return (
                f"the cost of {self.used.unpriced} finished items is unknown, so a budget in dollars cannot "
                "be kept; give the price book their model's price, or resume it with a budget of tokens"
            )
        return None

    @property
    def _limits_tokens(self) -> bool:
        return "tokens" in self.budget

    def _expected(self, need: Need) -> Need:
        mean = self.used.mean()
        if mean is None:
            return need
        # What was seen here is nearer to the truth than what the original used, where that was less.
        cost_usd = max((c for c in (need.cost_usd, mean.cost_usd) if c is not None), default=None)
        if need.tokens is None:
            return Need(need.calls, mean.input_tokens, mean.output_tokens, cost_usd)
        return Need(need.calls, need.input_tokens, need.output_tokens, cost_usd)

    def progress(self, now_s: float) -> dict[str, Any]:
        """How far it is.

        Args:
            now_s: by the clock that ``began_s`` is from.
        """
        settled = self.counts.total()
        left = len(self.items) - settled
        elapsed = now_s - self.began_s
        rate = self.settled_here / elapsed if self.settled_here and elapsed > 0 else None
        return {
            "items": len(self.items),
            "waiting": left - len(self.open),
            "running": len(self.open),
            **{name: self.counts[name] for name in ("completed", "failed", "refused", "cancelled")},
            "spent": self.used.spent(),
            "eta_s": left / rate if rate else None,
        }

    def recover(self, rows: Iterable[Mapping[str, Any]], open_statuses: frozenset[str]) -> None:
        """Take note of what was asked for before a restart."""
        for row in rows:
            replay_id = row["replay_id"]
            self.known.add(replay_id)
            if row["status"] in open_statuses:
                self.open[replay_id] = None
                self.interrupted.add(replay_id)
                continue
            self.counts[row["status"]] += 1
            if row["result_decision_id"] is not None:
                self.unread[row["result_decision_id"]] = None


def _amounts(need: Need) -> dict[str, float]:
    return {"calls": need.calls, "tokens": need.tokens or 0, "usd": need.cost_usd or 0.0}
