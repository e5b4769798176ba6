"""Experiments under way: one thread asks for their items, as many at once as each allows, and ends them.

Everything that is known of an experiment stands in the ledger: a server that starts again goes on with those
that were running, and asks for no item that was asked for before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from loopgrid_collector.errors import CollectorError, Retryable
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import ids, jsontext
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, QueryError
from loopgrid_query.experiments.estimates import Need, Prices, need_of
from loopgrid_query.experiments.state import CHANGE, Run, Wanted
from loopgrid_query.queries import Reader
from loopgrid_query.records import Record, decision_record, parsed
from loopgrid_query.replay.attempts import Attempt
from loopgrid_query.replay.executors import OPEN, Status
from loopgrid_query.replay.prompts import SeenPrompts
from loopgrid_query.replay.replays import Fork, Replays

_LOOK_S: Final = 5.0
"""Seconds without news after which open items are looked up: one may have ended unheard."""
_PAUSE_S: Final = 1.0
"""Seconds before the ledger is asked again that refused for now."""
_READ_AT_ONCE: Final = 64
"""Decisions read at once."""

_log: Final = logging.getLogger(__name__)


class Runner:
    """Asks for the items of the experiments of one ledger."""

    def __init__(
        self,
        reader: Reader,
        ingest: Ingest,
        decisions: Decisions,
        replays: Replays,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing runs yet.

        Args:
            reader: reads the ledger.
            ingest: the door into it.
            decisions: its decisions.
            replays: its replays.
            clock: seconds, never set back.
        """
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self._replays = replays
        self._clock = clock
        self._prompts = SeenPrompts(reader, remembers=True)
        self._runs: dict[str, Run] = {}
        self._originals: dict[str, Record] = {}
        self._priced: tuple[float, Prices] | None = None
        self._ended: deque[tuple[Attempt, Status]] = deque()
        self._news = threading.Condition()
        self._told = False
        self._stopping = False
        self._ticks: list[Callable[[], None]] = []
        self._recovered: Callable[[], Sequence[Run]] = list
        self._thread = threading.Thread(target=self._work, name="experiments", daemon=True)

    def start(self, recovered: Callable[[], Sequence[Run]]) -> None:
        """Go on with what was running.

        Args:
            recovered: finds it; called by the runner's thread.
        """
        self._recovered = recovered
        self._replays.lifecycle.when_settled(self._settled)
        self._replays.models.when_answered(self._answered)
        self._thread.start()

    def each_look(self, tick: Callable[[], None]) -> None:
        """Have a function called every few seconds, and oftener; before ``start``."""
        self._ticks.append(tick)

    def nudge(self) -> None:
        """Look now."""
        with self._news:
            self._tell()

    def stop(self) -> None:
        """Ask for nothing more. What runs stays running, and is gone on with at the next start."""
        with self._news:
            self._stopping = True
            self._news.notify_all()

    def close(self) -> None:
        """Wait for the thread."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()

    def take(self, run: Run) -> None:
        """Begin with an experiment whose request, or resumption, is on record."""
        run.began_s = self._clock()
        with self._news:
            self._runs[run.experiment_id] = run
            self._tell()

    def progress(self, experiment_id: str) -> Record | None:
        """How far an experiment is that is under way here; None where it is not."""
        with self._news:
            run = self._runs.get(experiment_id)
            return None if run is None else run.progress(self._clock())

    def cancel(self, experiment_id: str, by: str | None, reason: str) -> None:
        """Ask for no more items of an experiment, and cancel those that nobody has begun."""
        with self._news:
            run = self._runs.get(experiment_id)
            if run is None:
                return
            run.cancelled, run.stopping = True, reason
            opened = list(run.open)
            self._tell()
        waiting = {attempt.replay_id for attempt in self._replays.lifecycle.waiting()}
        for replay_id in opened:
            if replay_id in waiting:
                try:
                    self._replays.cancel(replay_id, by, f"its experiment {experiment_id} was cancelled")
                except Conflict:
                    # It has begun, or ended, since.
                    continue

    def _settled(self, attempt: Attempt, status: Status) -> None:
        with self._news:
            self._ended.append((attempt, status))
            self._tell()

    def _answered(self, replay_id: str) -> None:
        with self._news:
            run = next((one for one in self._runs.values() if replay_id in one.open), None)
            if run is not None:
                run.answered.add(replay_id)
                self._tell()

    def _tell(self) -> None:
        self._told = True
        self._news.notify_all()

    def _work(self) -> None:
        while not self._stopping:
            try:
                for run in self._recovered():
                    self.take(run)
                break
            except Retryable as trouble:
                _log.warning("experiments wait for the ledger: %s", trouble)
                self._pause(_PAUSE_S)
        while True:
            with self._news:
                heard = self._news.wait_for(lambda: self._told or self._stopping, _LOOK_S)
                if self._stopping:
                    return
                self._told = False
                runs = list(self._runs.values())
            if not heard:
                self._end_leases()
            for tick in self._ticks:
                tick()
            self._note_ends()
            for run in runs:
                self._stepped(run, look=not heard)

    def _end_leases(self) -> None:
        """Let go of what workers hold that went silent, though nobody asks."""
        try:
            self._replays.lifecycle.end_leases()
        except CollectorError as trouble:
            _log.warning("ended leases wait for the ledger: %s", trouble)

    def _pause(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._stopping, seconds)

    def _note_ends(self) -> None:
        with self._news:
            while self._ended:
                attempt, status = self._ended.popleft()
                run = next((one for one in self._runs.values() if attempt.replay_id in one.open), None)
                if run is None:
                    continue
                ran = status in {Status.COMPLETED, Status.FAILED}
                run.settle(attempt.replay_id, status, attempt.result_id if ran else None)

    def _stepped(self, run: Run, *, look: bool) -> None:
        """One step, and what becomes of the experiment where it cannot be made."""
        try:
            if look and run.open:
                self._look(run)
            self._step(run)
        except Retryable as trouble:
            _log.warning("an experiment waits for the ledger: %s", trouble)
            self._pause(_PAUSE_S)
            with self._news:
                self._tell()
        except (CollectorError, QueryError, AssertionError) as error:
            _log.exception("experiment %s cannot go on", run.experiment_id)
            self._end(run, "stopped", f"it could not go on: {error}")

    def _step(self, run: Run) -> None:
        if len(run.unread) >= _READ_AT_ONCE or (run.unread and (run.budget or not run.open)):
            self._read_usage(run)
        with self._news:
            if run.stopping is None and run.unpriced is not None:
                run.stopping = run.unpriced
        if run.stopping is None:
            self._ask_for_more(run)
        if run.open or run.unread:
            # What is unread belongs to ends that came meanwhile.
            if not run.open:
                with self._news:
                    self._tell()
            return
        if run.stopping is not None:
            self._end(run, "cancelled" if run.cancelled else "stopped", run.stopping)
        elif run.finished:
            self._end(run, "completed", None)

    def _ask_for_more(self, run: Run) -> None:
        # A few at a time: each asking is a commit.
        while run.stopping is None and run.free > 0 and run.free >= run.body["concurrency"] // 8:
            if run.retries:
                self._retry(run, run.retries.popleft())
                continue
            wanted = run.upcoming(min(run.free, _READ_AT_ONCE))
            if not wanted:
                return
            originals = self._read_originals(run, wanted)
            taken: list[Wanted] = []
            needs = [self._need(run, item, originals[item.decision_id]) for item in wanted]
            with self._news:
                for item, need in zip(wanted, needs, strict=True):
                    if not run.allows(need):
                        break
                    run.open[item.replay_id] = need
                    taken.append(item)
                run.give_back(wanted[len(taken) :])
            if not taken:
                return
            self._ask(run, taken, originals)
            if len(taken) < len(wanted):
                return

    def _ask(self, run: Run, taken: Sequence[Wanted], originals: Mapping[str, Record]) -> None:
        forks = [self._fork(run, item, originals[item.decision_id]) for item in taken]
        try:
            plans = self._replays.request_many(forks, run.by, self._prompts)
        except CollectorError:
            with self._news:
                for item in taken:
                    del run.open[item.replay_id]
                run.give_back(taken)
            raise
        with self._news:
            run.known.update(item.replay_id for item in taken)
            for item, chosen in zip(taken, plans, strict=True):
                if chosen.status is Status.REFUSED:
                    run.settle(item.replay_id, Status.REFUSED)

    def _fork(self, run: Run, item: Wanted, original: Record) -> Fork:
        return Fork(
            replay_id=item.replay_id,
            original=original,
            overrides=run.body["overrides"] if item.arm == CHANGE else {},
            executor=run.body["executor"],
            key=f"{run.experiment_id}/{item.arm}/{item.decision_id}",
            more={"experiment_id": run.experiment_id, "arm": item.arm},
        )

    def _retry(self, run: Run, replay_id: str) -> None:
        with self._news:
            run.open[replay_id] = Need()
        try:
            self._replays.lifecycle.retry(self._replays.row(replay_id), run.by, None)
        except Conflict:
            # It came to an end since it was found to have failed.
            with self._news:
                run.open.pop(replay_id, None)
                run.counts[self._replays.row(replay_id)["status"]] += 1
        except CollectorError:
            with self._news:
                run.open.pop(replay_id, None)
                run.retries.appendleft(replay_id)
            raise

    def _need(self, run: Run, item: Wanted, original: Record) -> Need:
        overrides = run.body["overrides"] if item.arm == CHANGE else {}
        return need_of(original["row"], overrides, self._prices())

    def _read_originals(self, run: Run, wanted: Sequence[Wanted]) -> Mapping[str, Record]:
        """The decisions of some items, read ahead."""
        missing = [item.decision_id for item in wanted if item.decision_id not in self._originals]
        if missing:
            ahead = [item.decision_id for item in run.items[run.next : run.next + 2 * _READ_AT_ONCE]]
            asked = list(dict.fromkeys([*missing, *ahead]))[: max(_READ_AT_ONCE, len(missing))]
            needed = {item.decision_id for item in wanted}
            kept = {each: self._originals[each] for each in needed if each in self._originals}
            self._originals = kept | {
                decision_id: {**decision_record(row, parsed), "row": row}
                for decision_id, row in self._decisions.originals(asked).items()
            }
        gone = [item.decision_id for item in wanted if item.decision_id not in self._originals]
        if gone:
            raise AssertionError(f"decision {gone[0]} of the cohort is none on record any more")
        return self._originals

    def _prices(self) -> Prices:
        now = self._clock()
        if self._priced is None or now - self._priced[0] > _PRICES_S:
            self._priced = (now, Prices(self._reader.rows("experiment_prices", {})))
        return self._priced[1]

    def _read_usage(self, run: Run) -> None:
        with self._news:
            unread = list(run.unread)
        prices = self._prices()
        for start in range(0, len(unread), _READ_AT_ONCE):
            batch = unread[start : start + _READ_AT_ONCE]
            rows = self._decisions.originals(batch)
            with self._news:
                for each in batch:
                    # A call that left no record may have been charged all the same.
                    row = rows.get(each)
                    run.used.add(Need() if row is None else need_of(row, {}, prices))
                    del run.unread[each]

    def _look(self, run: Run) -> None:
        """Find what has ended without this thread having been told."""
        rows = self._reader.rows("experiment_items", {"experiment_id": run.experiment_id})
        with self._news:
            for row in rows:
                if row["status"] not in OPEN:
                    run.settle(row["replay_id"], row["status"], row["result_decision_id"])

    def _end(self, run: Run, status: str, reason: str | None) -> None:
        append_transition(
            self._ingest,
            run.experiment_id,
            run.by,
            {"status": status, "spent": run.used.spent()} | ({"reason": reason} if reason else {}),
        )
        with self._news:
            self._runs.pop(run.experiment_id, None)


_PRICES_S: Final = 30.0
"""Seconds that prices are taken to stand, once read."""


def append_transition(ingest: Ingest, experiment_id: str, by: str | None, body: Mapping[str, Any]) -> None:
    """Append what happened to an experiment.

    Raises:
        CollectorError: the door refuses; nothing is stored.
    """
    jsontext.check(dict(body), "reason")
    ingest.entry_blocking(
        Entry(ids.new_experiment_event_id(), "experiment", 0, 0, experiment_id, by, dict(body))
    )
