"""How many requests the doors refused, and why. What was stored is counted by ingest."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Final

from loopgrid_collector.errors import CollectorError

_BETWEEN_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Refusals:
    """Counts by signal and reason, of all doors together. Safe to use from any thread.

    Hole: a gRPC message over the size limit is refused by the library before we hear of it.
    """

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, path: str, error: Exception) -> None:
        """Count one.

        Args:
            path: of the signal in OTLP/HTTP; its last part names the signal.
            error: why. The class is the reason; what nobody raised on purpose is a ``bug``.
        """
        name = type(error).__name__ if isinstance(error, CollectorError) else "Bug"
        reason = _BETWEEN_WORDS.sub("_", name).lower()
        with self._lock:
            self._counts[path.rpartition("/")[2], reason] += 1

    def read(self) -> Mapping[tuple[str, str], int]:
        """(signal, reason) → requests."""
        with self._lock:
            return dict(self._counts)
