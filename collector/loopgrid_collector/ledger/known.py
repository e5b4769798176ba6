"""Which span keys may be stored already: a filter that never forgets and needs no index on disk.

Guarantee: ``maybe`` is true for every key that was added. It is true for another key with a
probability of about n / 2**48, and then the ledger itself is asked; so a mistake costs one look-up and
never a record.

Shape: keys are mixed into 64-bit fingerprints, kept in sorted runs. New runs are merged while they are
small (as in a log-structured merge tree), and left alone once they reach ``RUN_KEYS``, so that no commit
ever waits for more than one merge of that size. Such a run is then packed: of each fingerprint 16 bits
say in which of 65,536 buckets it stands, and only the next 32 are kept. Four bytes a span: 10 million
spans take 43 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

RUN_KEYS: Final = 2**20
"""Keys at which a run is no longer merged."""

_BUCKET_BITS: Final = 16
_FEW: Final = 16
"""Keys up to which looking into one bucket after the other is faster than looking into all at once."""

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
        self._packed: list[_Packed] = []
        self._runs: list[Fingerprints] = []

    def __len__(self) -> int:
        return sum(map(len, self._packed)) + sum(map(len, self._runs))

    def add(self, keys: Fingerprints) -> None:
        """Remember keys that are stored now."""
        if not len(keys):
            return
        run = np.sort(keys)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.concatenate((self._runs.pop(), run))
            # Merging two sorted halves is what this sort does fastest.
            run.sort(kind="stable")
        if len(run) >= RUN_KEYS:
            self._packed.append(_Packed.of(run))
        else:
            self._runs.append(run)

    def maybe(self, keys: Fingerprints) -> npt.NDArray[np.bool_]:
        """For each key, whether it may be stored already. False is certain."""
        found = np.zeros(len(keys), dtype=np.bool_)
        for run in self._runs:
            places = np.searchsorted(run, keys)
            places[places == len(run)] = 0
            found |= run[places] == keys
        for packed in self._packed:
            found |= packed.maybe(keys)
        return found


@dataclass(frozen=True, slots=True)
class _Packed:
    """A run that is merged no more.

    Attributes:
        starts: where each bucket starts, and the end of the last.
        kept: 32 bits of each fingerprint, sorted within its bucket.
    """

    starts: npt.NDArray[np.int32]
    kept: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, run: Fingerprints) -> Self:
        """The run, which is sorted."""
        buckets, kept = _parts(run)
        return cls(np.searchsorted(buckets, np.arange(2**_BUCKET_BITS + 1)).astype(np.int32), kept)

    def __len__(self) -> int:
        return len(self.kept)

    def maybe(self, keys: Fingerprints) -> npt.NDArray[np.bool_]:
        """As that of ``KnownKeys``."""
        buckets, wanted = _parts(keys)
        starts, ends = self.starts[buckets], self.starts[buckets + 1]
        if len(keys) <= _FEW:
            places = zip(wanted, starts, ends, strict=True)
            return np.array([(self.kept[start:end] == each).any() for each, start, end in places], np.bool_)
        # A binary search in all buckets in step: ``below`` is the last place known to hold less.
        below = starts - 1
        step = 1 << int((ends - starts).max()).bit_length()
        while step := step >> 1:
            ahead = below + step
            less = (ahead < ends) & (self.kept[np.minimum(ahead, ends - 1)] < wanted)
            below = np.where(less, ahead, below)
        at = np.minimum(below + 1, len(self.kept) - 1)
        found: npt.NDArray[np.bool_] = (below + 1 < ends) & (self.kept[at] == wanted)
        return found


def _parts(keys: Fingerprints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint32]]:
    """Of each fingerprint its bucket, and the bits that are kept of it."""
    buckets = (keys >> np.uint64(64 - _BUCKET_BITS)).astype(np.intp)
    return buckets, (keys >> np.uint64(32 - _BUCKET_BITS)).astype(np.uint32)
