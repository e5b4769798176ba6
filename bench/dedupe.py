"""What it costs that no span is ever stored twice: the same work with and without looking for duplicates.

    python bench/dedupe.py

In one process, without network: the same batches of new spans are decoded and committed to two ledgers in
turn, one as it is, one whose commits take every span for new. Processor time is compared, turn by turn on
the same spans, and the figures are medians over the turns. Checkpoints are left out, which makes dedupe
look a little dearer than it is. Once with no key known before, and once with as many as ``--known`` says
in memory (random ones: the ledger file itself holds none of them).
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from harness import machine, table, verdict
from llm_spans import Bodies
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.decoding import traces_append
from loopgrid_collector.ledger import commit as commits
from loopgrid_collector.ledger.known import RUN_KEYS, Fingerprints, KnownKeys
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.opening import open_ledger

SPANS: Final = 512
MOST_COST: Final = 0.15

_TEMPLATES: Final = 16
_WARM_UP_TURNS: Final = 2


class TakesAllForNew(KnownKeys):
    """Remembers nothing, so that nothing is found again."""

    def add(self, keys: Fingerprints) -> None:
        """Forget them."""

    def maybe(self, keys: Fingerprints) -> Any:
        """None of them."""
        return np.zeros(len(keys), dtype=np.bool_)


@dataclass
class Side:
    """One of the two ledgers, and the processor time of its turns."""

    ledger: Ledger
    dedupes: bool
    decode_s: list[float] = field(default_factory=list)
    store_s: list[float] = field(default_factory=list)

    def turn(self, bodies: Sequence[bytes]) -> None:
        """Decode and commit one batch."""
        begun = time.process_time()
        append = traces_append(*bodies)
        decoded = time.process_time()
        with _as_is() if self.dedupes else _without_keys():
            receipt = self.ledger.append(append).result()
        done = time.process_time()
        assert receipt.stored == len(bodies) * SPANS
        self.decode_s.append(decoded - begun)
        self.store_s.append(done - decoded)

    def forget(self) -> None:
        """Nothing so far counts."""
        self.decode_s.clear()
        self.store_s.clear()


@contextmanager
def _as_is() -> Iterator[None]:
    yield


@contextmanager
def _without_keys() -> Iterator[None]:
    """Commits that neither mix keys into fingerprints nor compare them within the batch.

    The writer is idle when this begins and when it ends: its only append is the one in between.
    """

    def none(trace_ids: bytes, span_ids: Fingerprints) -> Fingerprints:  # noqa: ARG001 — takes the other's place
        return span_ids

    with patch.object(commits, "fingerprints", none), patch.object(commits, "_add_repeats", lambda *_: None):
        yield


def opened(path: Path, known: KnownKeys) -> Ledger:
    """A new ledger whose writer believes those keys to be stored."""
    # A checkpoint runs after the answer, so it would be counted for whoever comes next.
    config = CollectorConfig(ledger=str(path), checkpoint_wal_bytes=2**40, checkpoint_idle_s=3600.0)
    return Ledger(dataclasses.replace(open_ledger(config), known=known), config)


def random_keys(number: int) -> KnownKeys:
    """So many keys, in runs as long as they get."""
    keys, chance = KnownKeys(), np.random.default_rng(1)
    for first in range(0, number, RUN_KEYS):
        keys.add(chance.integers(0, 2**64, min(RUN_KEYS, number - first), np.uint64))
    return keys


def measure(folder: Path, known: int, options: argparse.Namespace) -> list[tuple[str, str]]:
    """The two sides in turn."""
    supply = Bodies(SPANS, _TEMPLATES)
    keys = random_keys(known)
    sides = [
        Side(opened(folder / f"with-{known}.duckdb", keys), dedupes=True),
        Side(opened(folder / f"without-{known}.duckdb", TakesAllForNew()), dedupes=False),
    ]
    until, turns = time.monotonic() + options.seconds, 0
    while turns <= _WARM_UP_TURNS or time.monotonic() < until:
        batch = [supply.next() for _ in range(options.requests)]
        # Who goes first changes, because the second one finds the batch in the processor's caches.
        for side in sides if turns % 2 else reversed(sides):
            side.turn(batch)
        turns += 1
        if turns == _WARM_UP_TURNS:
            for side in sides:
                side.forget()
    for side in sides:
        side.ledger.close()
    return _rows(known, sides, turns - _WARM_UP_TURNS, options.requests * SPANS)


def _rows(known: int, sides: Sequence[Side], turns: int, spans: int) -> list[tuple[str, str]]:
    decode = statistics.median([*sides[0].decode_s, *sides[1].decode_s])
    store = statistics.median(sides[0].store_s)
    dedupe = statistics.median(
        having - lacking for having, lacking in zip(sides[0].store_s, sides[1].store_s, strict=True)
    )
    cost = dedupe / (decode + store)
    return [
        ("", ""),
        (f"{known:,} keys known", f"{turns} turns of {spans:,} spans each"),
        ("  decoding, dialects, digests", f"{decode / spans * 1e6:.1f} µs a span"),
        ("  storing", f"{store / spans * 1e6:.1f} µs a span"),
        (
            "  of it, dedupe",
            f"{dedupe / spans * 1e6:.1f} µs a span: {dedupe / store:.1%} of storing, {cost:.1%} of the whole",
        ),
        (f"  cost of the whole < {MOST_COST:.0%}", verdict(passed=cost < MOST_COST)),
    ]


def main() -> None:
    """No key known, and many."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10, help="length of each of the two measurements")
    parser.add_argument("--known", type=int, default=10_000_000, help="keys known before the second one")
    parser.add_argument("--requests", type=int, default=4, help="requests of 512 spans that share a commit")
    parser.add_argument("--folder", default=".", help="where the ledgers are made and removed again")
    options = parser.parse_args()
    print(table([("machine", machine())]))
    for known in (0, options.known):
        with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
            print(table(measure(Path(folder), known, options)), flush=True)


if __name__ == "__main__":
    main()
