"""Which span keys may be stored already: a filter that never forgets and needs no index on disk.

Guarantee: ``maybe`` is true for every key that was added. It is true for another key with a
probability of about n / 2**64, and then the ledger itself is asked; so a mistake costs one look-up and
never a record.

Shape: keys are mixed into 64-bit fingerprints, kept in sorted runs. New runs are merged while they are
small (as in a log-structured merge tree), and left alone once they reach ``RUN_KEYS``, so that no commit
ever waits for more than one merge of that size. Eight bytes a span: 10 million spans take 80 MB.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

RUN_KEYS: Final = 2**20
"""Keys at which a run is no longer merged."""

Fingerprints = npt.NDArray[np.uint64]

# Odd constants of splitmix64: they spread keys that differ in few bits, as test ids and counters do.
_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFT: Final = (np.uint64(30), np.uint64(27), np.uint64(31))


def fingerprints(trace_ids: bytes, span_ids: npt.NDArray[np.uint64]) -> Fingerprints:
    """Fingerprints of span keys.

    Args:
        trace_ids: 16 bytes for each key, joined.
        span_ids: one for each key.
    """
    halves = np.frombuffer(trace_ids, dtype="<u8").reshape(-1, 2)
    mixed = halves[:, 0] * _MIX[0] ^ halves[:, 1] * _MIX[1] ^ span_ids * _MIX[2]
    mixed = (mixed ^ (mixed >> _SHIFT[0])) * _MIX[1]
    mixed = (mixed ^ (mixed >> _SHIFT[1])) * _MIX[2]
    found: Fingerprints = mixed ^ (mixed >> _SHIFT[2])
    return found


class KnownKeys:
    """The fingerprints of all stored span keys. Owned by the writer thread alone."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._runs: list[Fingerprints] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, keys: Fingerprints) -> None:
        """Remember keys that are stored now."""
        if not len(keys):
            return
        run = np.sort(keys)
        while self._runs and len(self._runs[-1]) < RUN_KEYS and len(self._runs[-1]) <= 2 * len(run):
            run = np.concatenate((self._runs.pop(), run))
            # Merging two sorted halves is what this sort does fastest.
            run.sort(kind="stable")
        self._runs.append(run)

    def maybe(self, keys: Fingerprints) -> npt.NDArray[np.bool_]:
        """For each key, whether it may be stored already. False is certain."""
        found = np.zeros(len(keys), dtype=np.bool_)
        for run in self._runs:
            places = np.searchsorted(run, keys)
            places[places == len(run)] = 0
            found |= run[places] == keys
        return found
