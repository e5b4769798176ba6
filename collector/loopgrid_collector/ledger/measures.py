"""What the ledger counts and times about itself. No evidence; it starts at zero with each process."""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final

LATENCY_BOUNDS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


class Latency:
    """A histogram of durations. Safe to use from any thread."""

    def __init__(self) -> None:
        """Nothing was timed."""
        self._lock = threading.Lock()
        self._counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        place = bisect.bisect_left(LATENCY_BOUNDS_S, seconds)
        with self._lock:
            self._counts[place] += 1
            self._sum_s += seconds

    def read(self) -> tuple[list[tuple[float, int]], float]:
        """Cumulative counts by upper bound in seconds, the last one infinite; and the sum of durations."""
        with self._lock:
            counts, sum_s = list(self._counts), self._sum_s
        total, found = 0, []
        for bound, count in zip((*LATENCY_BOUNDS_S, float("inf")), counts, strict=True):
            total += count
            found.append((bound, total))
        return found, sum_s


class Measures:
    """Counters and histograms of one ledger.

    Attributes:
        commit: from the begin of a group commit until its head is attested.
        acknowledgement: from handing in an append until its future resolves, well or not.
        checkpoint: folding the log into the file.
    """

    def __init__(self) -> None:
        """All zero."""
        self.commit = Latency()
        self.acknowledgement = Latency()
        self.checkpoint = Latency()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter.

        ``failed``, ``refused_low_space``, ``reopened`` after trouble, ``refreshed`` to give back memory,
        ``checkpoints_put_off``, ``refreshes_put_off``.
        """
        with self._lock:
            self._counts[name] += by

    def counts(self) -> Counter[str]:
        """The counters as they stand."""
        with self._lock:
            return Counter(self._counts)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a ledger stands at a moment.

    Attributes:
        usable: whether the storage works, as far as known.
        commit_id: newest commit; 0 for none.
        records: records in it and before.
        file_bytes: size of the file.
        wal_bytes: size of its write-ahead log.
        free_bytes: what the file system has left for us.
        waiting: appends that nobody has looked at yet.
    """

    usable: bool
    commit_id: int
    records: int
    file_bytes: int
    wal_bytes: int
    free_bytes: int
    waiting: int
