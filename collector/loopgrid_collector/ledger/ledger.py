"""The ledger: one writer, many readers, group commit.

Laws:

* A future handed out by :meth:`Ledger.append` resolves only after the commit that holds its rows is
  durable, visible to readers, and attested by the head file.
* Rows are inserted, never changed. This module and ``opening`` are the only ones that write.
* All appends waiting when the writer comes round share one commit. If that commit fails and left
  nothing behind, each is tried alone, so that nobody's bad luck is shared.
* An append is stored whole or not at all.
* Trouble with the storage is never final: what was refused may be sent again, and the next append (or
  the next idle moment) finds out whether the storage works again. No restart is needed.

Where a crash happens: before COMMIT returns, nothing was acknowledged and nothing is there. Between
COMMIT and the head file, the rows are there, unacknowledged; a sender that tries again finds
duplicates. A head older than its ledger is therefore normal at a start, a newer one never is. The new head
is written and synced beside the old one before COMMIT, so that a full disk calls the commit off, and
only a rename is left for afterwards.

Hole: a mark, correction or replay request that was refused because that rename failed, or whose answer was
lost in a crash, is there, and it has no key by which a second attempt could be recognised: sent again,
it stands twice.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Fatal, ShuttingDown, StorageTrouble
from loopgrid_collector.ledger import head as heads
from loopgrid_collector.ledger.commit import Commit
from loopgrid_collector.ledger.folding import RowGroups
from loopgrid_collector.ledger.measures import Measures, Standing
from loopgrid_collector.ledger.opening import CATALOG, Door, Opened, open_ledger
from loopgrid_collector.ledger.readers import Readers
from loopgrid_collector.ledger.records import Append, Receipt
from loopgrid_collector.ledger.snapshot import Extent, wal_of
from loopgrid_collector.ledger.statements import QUERIES
from loopgrid_collector.logs import OncePerSecond

_log = logging.getLogger(__name__)

WORTH_WAITING_BYTES: Final = 256 * 2**10
"""Bytes of requests being decoded from which a small commit waits for them."""

_PATIENCE_S: Final = 0.1
_OFTEN: Final = 8
"""How often, at least, a refresh is tried again before as much again is written."""

_TELLING: Final = (OSError, duckdb.OperationalError, duckdb.FatalException, duckdb.TransactionException)
"""Errors whose text speaks of files and limits, never of what is stored."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    append: Append
    future: Future[Receipt]
    handed_in_s: float = field(default_factory=time.perf_counter)


class _Nudge:
    """Wakes the writer: what it waits for does not come."""


_NUDGE: Final = _Nudge()


@dataclass(frozen=True, slots=True)
class Announced:
    """That an append is about to come, told to the ledger before the work that makes it."""

    number: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Failure:
    """A commit that cannot be acknowledged, and whether it is certain to have left nothing behind."""

    trouble: StorageTrouble
    nothing_stored: bool


class Ledger:
    """An open ledger. Safe to use from any thread."""

    def __init__(self, opened: Opened, config: CollectorConfig, door: Door | None = None) -> None:
        """Use :meth:`open`."""
        self._config = config
        self._opened = opened
        self._door_of_duckdb = door
        self._heads = heads.HeadFile(heads.path_of(opened.path), opened.head)
        self._queue: queue.SimpleQueue[_Waiting | _Nudge | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        self._announcements = itertools.count(1)
        self._coming: dict[int, int] = {}
        self._trouble: str | None = None
        # A handle is set aside under their lock, so that no reader takes a cursor from a dead one.
        self._readers = Readers(self._cursor)
        self._lost = False
        self._rows_until_fresh = config.reopen_rows
        self._put_off_wal_bytes = 0
        self._row_groups = RowGroups(config.row_group_rows)
        # The writer has it while it commits and checkpoints; whoever has it sees a ledger at rest.
        self._turn = threading.Lock()
        self._copies = 0
        self._say = OncePerSecond(_log)
        self.measures = Measures()
        self._writer = threading.Thread(target=self._write_until_closed, name="ledger-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: str, config: CollectorConfig, door: Door | None = None) -> Ledger:
        """Open the ledger at ``path``, creating it where there is none.

        Args:
            path: of its file.
            config: settings.
            door: what DuckDB serves as long as the ledger is open.

        Raises:
            Fatal: it cannot be opened; the message says what to do.
        """
        if path != config.ledger:
            config = config.with_ledger(path)
        return cls(open_ledger(config, door), config, door)

    @property
    def usable(self) -> bool:
        """Whether the last attempt to store something found the storage working."""
        return self._trouble is None

    @property
    def trouble(self) -> str | None:
        """Why the last attempt to store something failed, and what helps; None where it did not."""
        return self._trouble

    def standing(self) -> Standing:
        """Sizes and the newest commit, as they are now."""
        opened, file = self._opened, self._opened.path
        return Standing(
            usable=self.usable,
            commit_id=opened.head.commit_id,
            records=opened.head.records,
            file_bytes=_size(file),
            wal_bytes=self._wal_bytes(),
            free_bytes=_free_bytes(file.parent) or 0,
            waiting=self._queue.qsize(),
        )

    def announce(self, size_bytes: int) -> Announced:
        """Say that an append is being prepared. A commit that begins meanwhile waits for it, within limits.

        Every announcement is settled: by :meth:`append`, or by :meth:`settle` where nothing comes of it.

        Args:
            size_bytes: roughly how much of it there will be.
        """
        announced = Announced(next(self._announcements), size_bytes)
        with self._door:
            self._coming[announced.number] = size_bytes
        return announced

    def settle(self, announced: Iterable[Announced]) -> None:
        """Nothing more comes of these. Said twice, it is heard once."""
        with self._door:
            known = [self._coming.pop(each.number, None) for each in announced]
            if not self._coming and any(size is not None for size in known):
                # The writer may be waiting for them.
                self._queue.put(_NUDGE)

    def append(self, append: Append, announced: Iterable[Announced] = ()) -> Future[Receipt]:
        """Hand in rows. The future resolves once they are durable.

        Args:
            append: the rows.
            announced: the announcements that this fulfils.

        Raises (from the future):
            StorageTrouble: they could not be committed, or there is too little space to try; the same
                append may succeed later.

        Raises:
            ShuttingDown: the ledger is closing.
        """
        future: Future[Receipt] = Future()
        # From here on nobody can cancel it: a sender that goes away must not disturb the writer.
        future.set_running_or_notify_cancel()
        free = _free_bytes(self._opened.path.parent)
        if free is not None and free < self._config.min_free_bytes:
            self.measures.count("refused_low_space")
            self._say(logging.ERROR, "Refusing what arrives: %d bytes are free, below min_free_bytes.", free)
            trouble = _too_little_space(free)
            self._trouble = str(trouble)
            future.set_exception(trouble)
            return future
        with self._door:
            if self._closed:
                raise ShuttingDown("The server is stopping; send again when it is back.")
            for each in announced:
                self._coming.pop(each.number, None)
            self._queue.put(_Waiting(append, future))
        return future

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A reader on the live ledger, on the public views, until the block ends.

        Raises:
            StorageTrouble: the storage failed and does not work again yet.
        """
        with self._readers.reading() as cursor:
            cursor.execute(f"USE {CATALOG}")
            yield cursor

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if self._lost:
            raise StorageTrouble("The ledger's storage does not work at the moment; ask again later.")
        return self._opened.connection.cursor()

    @contextmanager
    def copying(self) -> Iterator[tuple[Extent, Callable[[], bool]]]:
        """Keep the files as they are for a copy; commits go on, checkpoints wait until the block ends.

        Yields:
            what belongs to the copy, and whether that still holds.

        Raises:
            StorageTrouble: the storage does not work.
        """
        with self._turn:
            if self._lost:
                raise StorageTrouble("The ledger's storage does not work at the moment; ask again later.")
            opened = self._opened
            extent = Extent(opened.path, _size(opened.path), self._wal_bytes(), opened.head)
            self._copies += 1
        try:
            yield extent, lambda: self._opened.connection is opened.connection and not self._lost
        finally:
            with self._turn:
                self._copies -= 1

    def interrupt_readers(self) -> None:
        """End the statements of all readers: nobody waits for them any more, and a stop must not either."""
        self._readers.interrupt()

    def close(self) -> None:
        """Commit what was handed in, fold the log into the file, and let go of it."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        _end(self._door_of_duckdb, self._opened)
        if not self._lost:
            try:
                self._heads.attest(self._opened.head)
                self._opened.connection.execute(QUERIES["checkpoint"])
            except (duckdb.Error, OSError) as error:
                # Everything acknowledged is in the log and is replayed at the next start.
                _log.warning("The last checkpoint failed: %s", told(error))
        self._heads.close()
        self._opened.connection.close()

    def _write_until_closed(self) -> None:
        open_for_more = True
        while open_for_more:
            try:
                first = self._queue.get(timeout=self._config.checkpoint_idle_s)
            except queue.Empty:
                with self._turn:
                    if self._ready():
                        self._checkpoint_if_larger_than(0)
                continue
            if first is None:
                return
            if isinstance(first, _Nudge):
                continue
            group, open_for_more = self._gather(first)
            appends = [waiting.append for waiting in group]
            with self._turn:
                self._fold_before(appends)
                self._commit_group(group)
                self._row_groups.add(appends)
                # The next commit is likely to be as large, and nobody waits for it yet.
                self._fold_before(appends)
                self._checkpoint_if_larger_than(self._config.checkpoint_wal_bytes)
                self._refresh(sum(append.rows for append in appends))

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """What shares one commit; False once the end was seen.

        Everything that waits, up to the size of a commit. Below a row group, also what is being prepared at
        this moment, if it is much: commits of a row group or more cost half as much a row (docs/adr/0008),
        and what is on its way now is here in milliseconds. What is announced later is not waited for.
        """
        group, rows = [first], first.append.rows
        last = self._last_announced()
        give_up_at = time.perf_counter() + self._config.max_commit_wait_s
        while rows < self._config.max_commit_spans:
            patience_s = 0.0
            if rows < self._config.row_group_rows and self._coming_bytes(last) >= WORTH_WAITING_BYTES:
                patience_s = max(0.0, give_up_at - time.perf_counter())
            try:
                waiting = self._queue.get(timeout=patience_s) if patience_s else self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                return group, False
            if isinstance(waiting, _Nudge):
                continue
            group.append(waiting)
            rows += waiting.append.rows
        return group, True

    def _last_announced(self) -> int:
        with self._door:
            return max(self._coming, default=0)

    def _coming_bytes(self, last: int) -> int:
        with self._door:
            return sum(size for number, size in self._coming.items() if number <= last)

    def _commit_group(self, group: Sequence[_Waiting]) -> None:
        begun_s = time.perf_counter()
        outcome = self._attempt([waiting.append for waiting in group])
        if isinstance(outcome, _Failure) and outcome.nothing_stored and len(group) > 1:
            for waiting in group:
                self._commit_group([waiting])
            return
        done_s = time.perf_counter()
        self.measures.commit.add(done_s - begun_s)
        for position, waiting in enumerate(group):
            self.measures.acknowledgement.add(done_s - waiting.handed_in_s)
            if isinstance(outcome, _Failure):
                waiting.future.set_exception(outcome.trouble)
            else:
                waiting.future.set_result(outcome[position])

    def _attempt(self, appends: Sequence[Append]) -> list[Receipt] | _Failure:
        if not self._ready():
            return self._failure(None, nothing_stored=False)
        before = self._opened.head
        try:
            commit = Commit(self._opened.connection, before, self._opened.known, self._heads.prepare)
            receipts, head = commit.run(appends)
        except Exception as error:  # noqa: BLE001 — the one writer must outlive any failed commit; it is reported, counted and retried
            self._settle(error)
            return self._failure(error, nothing_stored=not self._lost and self._opened.head == before)
        self._opened = dataclasses.replace(self._opened, head=head)
        try:
            self._heads.attest(self._opened.head)
        except OSError as error:
            # Stored and not attested: sent again, all of it is a duplicate, and is attested then.
            return self._failure(error, nothing_stored=False)
        self._trouble = None
        return receipts

    def _settle(self, error: Exception) -> None:
        """After a commit that failed: find out whether it took effect all the same.

        What stands in the file counts, never what the error seems to say. Where the two cannot be
        brought together on this handle, the ledger is opened again.
        """
        if not isinstance(error, duckdb.FatalException):
            try:
                with suppress(duckdb.TransactionException):
                    # A transaction that was begun and not ended; usually there is none.
                    self._opened.connection.rollback()
                row = self._opened.connection.execute(QUERIES["last_commit"]).fetchone()
            except duckdb.Error as second:
                error = second
            else:
                if (row[0] if row else 0) == self._opened.head.commit_id:
                    return
        self._set_aside(error)
        self._ready()

    def _failure(self, error: Exception | None, *, nothing_stored: bool) -> _Failure:
        self._trouble = "The last write failed; look at the server's log and at the free disk space."
        self.measures.count("failed")
        if error is not None:
            self._say(logging.ERROR, "A commit failed: %s", told(error))
        trouble = StorageTrouble(
            "The ledger could not commit; nothing of this request is acknowledged. Send it again: a span is "
            "never stored twice. If this persists, look at the server's log and at the free disk space."
        )
        trouble.__cause__ = error
        return _Failure(trouble, nothing_stored)

    def _set_aside(self, cause: Exception) -> None:
        """Give up a dead handle, with every cursor on it.

        All of them: a file descriptor that a forgotten cursor keeps and closes later would take the
        process's lock on the file with it, as POSIX locks go.
        """
        self._say(logging.ERROR, "The database handle is lost (%s); opening the ledger again.", told(cause))
        with self._readers.handle:
            self._lost = True
            self._trouble = "The database handle was lost and is opened again; look at the server's log."
            self._readers.cut_off()
            _end(self._door_of_duckdb, self._opened)
            self._opened.connection.close()

    def _ready(self) -> bool:
        """Whether there is a live handle. A lost one is replaced here, as soon as that can be done."""
        if not self._lost:
            return True
        if self._reopened():
            self.measures.count("reopened")
            _log.info("The ledger is open again, at commit %d.", self._opened.head.commit_id)
        return not self._lost

    def _reopened(self) -> bool:
        try:
            opened = open_ledger(self._config, self._door_of_duckdb, self._opened)
        except (Fatal, duckdb.Error, OSError) as error:
            self._trouble = "The ledger cannot be opened again yet; look at the server's log."
            self._say(logging.ERROR, "The ledger cannot be opened again yet: %s", error)
            return False
        with self._readers.handle:
            self._opened, self._lost = opened, False
            self._heads.reset(opened.head)
        return True

    def _refresh(self, rows: int) -> None:
        """Close and open the file now and then, while nobody reads.

        DuckDB keeps some 150 KB of every row group that it wrote, and nothing else lets go of it
        (docs/adr/0022). Not while somebody reads for long or copies, nor with a door of DuckDB's own.
        """
        self._rows_until_fresh -= rows
        never = not self._config.reopen_rows or self._door_of_duckdb is not None
        if never or self._rows_until_fresh > 0 or self._lost or self._copies:
            return
        self._rows_until_fresh = self._config.reopen_rows // _OFTEN
        self._checkpoint_if_larger_than(0)
        with self._readers.held_off(_PATIENCE_S) as nobody:
            if not (nobody and self._ready()) or self._wal_bytes():
                self.measures.count("refreshes_put_off")
                return
            begun_s = time.perf_counter()
            self._lost = True
            self._opened.connection.close()
            if self._reopened():
                self._rows_until_fresh = self._config.reopen_rows
                self.measures.count("refreshed")
                took_ms = 1000 * (time.perf_counter() - begun_s)
                _log.info("The file was closed and opened again in %.0f ms, to give back memory.", took_ms)

    def _fold_before(self, appends: Sequence[Append]) -> None:
        if self._row_groups.are_full_with(appends):
            self._checkpoint_if_larger_than(1)

    def _checkpoint_if_larger_than(self, least_wal_bytes: int) -> None:
        """Fold the log into the file once it has some size.

        One that was put off is tried again when the log has grown by a quarter of its usual size, or
        when the ledger is idle, so that a long reader does not cost every commit an attempt.
        """
        size = self._wal_bytes()
        again_at = self._put_off_wal_bytes + self._config.checkpoint_wal_bytes // 4
        waits = bool(self._put_off_wal_bytes) and least_wal_bytes > 0 and size < again_at
        if self._lost or self._copies or size <= least_wal_bytes or waits:
            return
        begun_s = time.perf_counter()
        try:
            self._opened.connection.execute(QUERIES["checkpoint"])
        except duckdb.FatalException as error:
            self._set_aside(error)
            self._ready()
        except duckdb.Error as error:
            self._put_off_wal_bytes = size
            self.measures.count("checkpoints_put_off")
            self._say(logging.INFO, "A checkpoint was put off: %s", told(error))
        else:
            self._put_off_wal_bytes = 0
            self._row_groups.folded()
            self.measures.checkpoint.add(time.perf_counter() - begun_s)

    def _wal_bytes(self) -> int:
        return _size(wal_of(self._opened.path))


def told(error: BaseException) -> str:
    """An error for a log: its type, and its first line where that cannot quote what is stored."""
    name = type(error).__name__
    return f"{name}: {str(error).splitlines()[0]}" if isinstance(error, _TELLING) and str(error) else name


def _end(door: Door | None, opened: Opened) -> None:
    if door is not None:
        door.end(opened.connection)


def _too_little_space(free: int) -> StorageTrouble:
    return StorageTrouble(
        f"The ledger's disk has only {free} bytes left, so nothing is taken, and nothing of this request is "
        "stored. Free some space, or lower LOOPGRID_MIN_FREE_BYTES, and send it again."
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _free_bytes(folder: Path) -> int | None:
    """What an ordinary process may still write there; None where the system does not say."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
