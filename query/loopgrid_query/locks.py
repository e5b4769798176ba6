"""One thing at a time for each key: for "look, then append" that must not be done twice at once.

Holds within one server process, which is the only writer of its ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class KeyedLocks:
    """A fixed number of locks shared by all keys; different keys rarely wait for each other."""

    def __init__(self, locks: int = 1024) -> None:
        self._locks = tuple(threading.Lock() for _ in range(locks))

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """Run the block while nobody else holds the same key. Do not nest."""
        with self._locks[hash(key) % len(self._locks)]:
            yield
