"""The ledger: one writer, many readers, group commit.

Laws:

* A future handed out by :meth:`Ledger.append` resolves only after the commit that holds its rows is
  durable, visible to readers, and attested by the head file.
* Rows are inserted, never changed. This module and ``opening`` are the only ones that write.
* All appends waiting when the writer comes round share one commit. If that commit fails, each is tried
  alone, so that nobody's bad luck is shared.
* An append is stored whole or not at all.

Where a crash happens: before COMMIT returns, nothing was acknowledged and nothing is there. Between
COMMIT and the head file, the rows are there, unacknowledged; a sender that tries again finds
duplicates. A head older than its ledger is therefore normal at a start, a newer one never is.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import duckdb

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Fatal, ShuttingDown, StorageTrouble
from loopgrid_collector.ledger import head as heads
from loopgrid_collector.ledger.commit import Commit
from loopgrid_collector.ledger.opening import CATALOG, Opened, open_ledger
from loopgrid_collector.ledger.records import Append, Receipt
from loopgrid_collector.ledger.statements import QUERIES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    append: Append
    future: Future[Receipt]


class Ledger:
    """An open ledger. Safe to use from any thread."""

    def __init__(self, opened: Opened, config: CollectorConfig) -> None:
        """Use :meth:`open`."""
        self._config = config
        self._opened = opened
        self._attested = opened.head
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        self._usable = True
        self._writer = threading.Thread(target=self._write_until_closed, name="ledger-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: str, config: CollectorConfig) -> Ledger:
        """Open the ledger at ``path``, creating it where there is none.

        Raises:
            Fatal: it cannot be opened; the message says what to do.
        """
        if path != config.ledger:
            config = config.with_ledger(path)
        return cls(open_ledger(config), config)

    @property
    def usable(self) -> bool:
        """Whether the last attempt to store something found the storage working."""
        return self._usable

    def append(self, append: Append) -> Future[Receipt]:
        """Hand in rows. The future resolves once they are durable.

        Raises (from the future):
            StorageTrouble: they could not be committed; nothing of this append is stored.

        Raises:
            ShuttingDown: the ledger is closing.
        """
        future: Future[Receipt] = Future()
        with self._door:
            if self._closed:
                raise ShuttingDown("The server is stopping; send again when it is back.")
            self._queue.put(_Waiting(append, future))
        return future

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A reader on the live ledger, on the public views. Close it, or use it as a context manager."""
        cursor = self._opened.connection.cursor()
        cursor.execute(f"USE {CATALOG}")
        return cursor

    def close(self) -> None:
        """Commit what was handed in, fold the log into the file, and let go of it."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        try:
            self._opened.connection.execute(QUERIES["checkpoint"])
        except duckdb.Error as error:
            # Everything acknowledged is in the log and is replayed at the next start.
            _log.warning("The last checkpoint failed: %s", error)
        self._opened.connection.close()

    def _write_until_closed(self) -> None:
        open_for_more = True
        while open_for_more:
            first = self._queue.get()
            if first is None:
                return
            group, open_for_more = self._gather(first)
            self._commit_group(group)
            self._checkpoint_if_due()

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """Everything that waits, up to the size of one commit; False once the end was seen."""
        group, rows = [first], first.append.rows
        while rows < self._config.max_commit_spans:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                return group, False
            group.append(waiting)
            rows += waiting.append.rows
        return group, True

    def _commit_group(self, group: Sequence[_Waiting]) -> None:
        receipts = self._attempt([waiting.append for waiting in group])
        if isinstance(receipts, StorageTrouble) and len(group) > 1:
            for waiting in group:
                self._commit_group([waiting])
            return
        for position, waiting in enumerate(group):
            if isinstance(receipts, StorageTrouble):
                waiting.future.set_exception(receipts)
            else:
                waiting.future.set_result(receipts[position])

    def _attempt(self, appends: Sequence[Append]) -> list[Receipt] | StorageTrouble:
        connection = self._opened.connection
        try:
            receipts, head = Commit(connection, self._opened.head, self._opened.known).run(appends)
            self._opened = dataclasses.replace(self._opened, head=head)
            if head != self._attested:
                heads.write(heads.path_of(self._opened.path), head)
                self._attested = head
        except duckdb.FatalException as error:
            self._reopen(error)
            return self._trouble(error)
        except Exception as error:  # noqa: BLE001 — the one writer must outlive any failed commit; it is reported, counted and retried
            return self._trouble(error)
        self._usable = True
        return receipts

    def _trouble(self, error: Exception) -> StorageTrouble:
        self._usable = False
        _log.error("A commit failed and nothing of it is stored: %s: %s", type(error).__name__, error)
        return StorageTrouble(
            "The ledger could not commit; nothing of this request is stored. Send it again. "
            "If this persists, look at the server's log and at the free disk space."
        )

    def _reopen(self, cause: Exception) -> None:
        """After a fatal error DuckDB's handle is dead, though the file is sound: take a new one."""
        _log.error("The database handle is lost (%s); opening the ledger again.", cause)
        self._opened.connection.close()
        try:
            self._opened = open_ledger(self._config)
            self._attested = self._opened.head
        except Fatal as error:
            _log.error("The ledger cannot be opened again: %s", error)

    def _checkpoint_if_due(self) -> None:
        log = self._opened.path.with_name(self._opened.path.name + ".wal")
        try:
            if log.stat().st_size < self._config.checkpoint_wal_bytes:
                return
            self._opened.connection.execute(QUERIES["checkpoint"])
        except FileNotFoundError:
            return
        except duckdb.FatalException as error:
            self._reopen(error)
        except duckdb.Error as error:
            # For instance a reader in a long query: the log simply grows until the next round.
            _log.info("A checkpoint was put off: %s", error)
