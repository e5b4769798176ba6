"""Who reads on the ledger's handle, and how the handle is exchanged without cutting anybody off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import duckdb


class Readers:
    """The cursors that are in use. Safe to use from any thread.

    Whoever has ``handle`` may exchange the handle: no cursor is made meanwhile.
    """

    def __init__(self, cursor: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        """Nobody reads.

        Args:
            cursor: makes one, or raises; called with ``handle`` held.
        """
        self._cursor = cursor
        self._changed = threading.Condition(threading.RLock())
        self._in_use: list[duckdb.DuckDBPyConnection] = []
        self._held_off = False

    @property
    def handle(self) -> threading.Condition:
        """The lock under which the handle is exchanged. Reentrant."""
        return self._changed

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor, closed at the end of the block. Waits while readers are held off."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held_off)
            cursor = self._cursor()
            self._in_use.append(cursor)
        try:
            yield cursor
        finally:
            cursor.close()
            with self._changed:
                self._in_use = [each for each in self._in_use if each is not cursor]
                self._changed.notify_all()

    @contextmanager
    def held_off(self, patience_s: float) -> Iterator[bool]:
        """Let nobody begin to read until the block ends. For the one thread that exchanges the handle.

        Args:
            patience_s: how long to wait for those who read already. One of them may be waiting for a second
                cursor, and then only this ends it.

        Yields:
            whether nobody reads.
        """
        give_up_at = time.monotonic() + patience_s
        with self._changed:
            self._held_off = True
            nobody = self._changed.wait_for(lambda: not self._in_use, give_up_at - time.monotonic())
        try:
            yield nobody
        finally:
            with self._changed:
                self._held_off = False
                self._changed.notify_all()

    def interrupt(self) -> None:
        """End the statements that run."""
        with self._changed:
            for cursor in self._in_use:
                # One that is being closed runs nothing.
                with suppress(duckdb.ConnectionException):
                    cursor.interrupt()

    def cut_off(self) -> None:
        """Close every cursor under its reader."""
        with self._changed:
            for cursor in self._in_use:
                cursor.close()
