"""Whether the server's memory grows while it works: resident memory over minutes, at full and at half load.

    python bench/soak.py --minutes 10

Each load gets a server and a ledger of its own for so many minutes. Memory is sampled every five seconds;
the growth is the slope of a straight line through the samples after the first minute.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from generator import Job
from harness import Generator, machine, serving, table, verdict

LOADS: Final = ("full", "half")
CONNECTIONS: Final = 4
MOST_MB: Final = 1536.0
MOST_GROWTH: Final = 0.05
"""Growth over the whole time that passes as noise of the allocator, as a share of the memory in use."""

_SETTLE_S: Final = 60.0
_SAMPLE_S: Final = 5.0
_LEAST_SAMPLES: Final = 3
_DISK_BYTES_PER_SPAN: Final = 3_500
_MOST_SPANS_PER_S: Final = 20_000


@dataclass(frozen=True)
class Soak:
    """One load. Memory in MB, of the server and its children."""

    name: str
    spans_per_s: float
    samples: list[tuple[float, float]]

    @property
    def settled(self) -> list[tuple[float, float]]:
        """Samples after the first minute; of a shorter run, its second half."""
        late = [sample for sample in self.samples if sample[0] >= _SETTLE_S]
        return late if len(late) >= _LEAST_SAMPLES else self.samples[len(self.samples) // 2 :]

    @property
    def long_enough(self) -> bool:
        """Whether what was measured after the first minute is as long as that minute."""
        return self.samples[-1][0] >= 2 * _SETTLE_S

    @property
    def mb_per_minute(self) -> float:
        """Slope of the settled samples."""
        seconds, mb = zip(*self.settled, strict=True)
        return statistics.linear_regression(seconds, mb).slope * 60 if len(seconds) > 1 else 0.0

    def each_minute(self) -> list[float]:
        """The first sample of each minute, and the last of all."""
        first: dict[int, float] = {}
        for second, mb in self.samples:
            first.setdefault(int(second // 60), mb)
        return [*first.values(), self.samples[-1][1]]

    def rows(self) -> list[tuple[str, str]]:
        """For people, with how it stands to the aims."""
        memory = [mb for _, mb in self.samples]
        settled = [mb for _, mb in self.settled]
        growth_mb = self.mb_per_minute * (self.settled[-1][0] - self.settled[0][0]) / 60
        per_span = self.mb_per_minute * 2**20 / 60 / self.spans_per_s
        share = growth_mb / settled[0]
        return [
            ("", ""),
            (
                f"{self.name} load",
                f"{self.spans_per_s:,.0f} spans/s for {self.samples[-1][0] / 60:.1f} minutes",
            ),
            ("  memory every minute", " ".join(f"{mb:,.0f}" for mb in self.each_minute())),
            ("  median, peak", f"{statistics.median(settled):,.0f} MB, {max(memory):,.0f} MB"),
            (
                "  slope after a minute",
                f"{self.mb_per_minute:+,.2f} MB a minute, {per_span:+,.1f} bytes a span, {share:+.1%} in all",
            ),
            (f"  peak < {MOST_MB:,.0f} MB", verdict(passed=max(memory) < MOST_MB)),
            (
                f"  growth < {MOST_GROWTH:.0%}",
                verdict(passed=share < MOST_GROWTH) if self.long_enough else "too short to tell",
            ),
        ]


def main() -> None:
    """One soak after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10, help="length of each soak")
    parser.add_argument("--load", choices=(*LOADS, "both"), default="both")
    parser.add_argument(
        "--half-rate", type=float, help="spans a second of the half load, if not half the full"
    )
    parser.add_argument("--spans-per-request", type=int, default=512)
    parser.add_argument("--sample-seconds", type=float, default=_SAMPLE_S)
    parser.add_argument("--folder", default=".", help="where the ledgers are made and removed again")
    options = parser.parse_args()
    seconds = options.minutes * 60
    need = seconds * _MOST_SPANS_PER_S * _DISK_BYTES_PER_SPAN
    free = shutil.disk_usage(options.folder).free
    if free < need:
        print(
            f"Up to {need / 2**30:,.0f} GB of disk may be needed, {free / 2**30:,.0f} are free.",
            file=sys.stderr,
        )
    print(table([("machine", machine())]), flush=True)
    rate = options.half_rate or 0.0
    for name in LOADS:
        if name == "half" and not rate:
            rate = full_rate(options) / 2
        if options.load in {name, "both"}:
            found = soak(name, 0.0 if name == "full" else rate, seconds, options)
            rate = rate or found.spans_per_s / 2
            print(table(found.rows()), flush=True)


def full_rate(options: argparse.Namespace) -> float:
    """What a short full load gets to."""
    job = Job("http", CONNECTIONS, options.spans_per_request)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder,
        Generator(job) as generator,
        serving(Path(folder) / "ledger.duckdb") as server,
    ):
        return generator.run(server, min(10.0, options.minutes * 60), 1.0).spans_per_s


def soak(name: str, rate: float, seconds: float, options: argparse.Namespace) -> Soak:
    """Send for so long and sample meanwhile; the ledger must hold what was acknowledged."""
    job = Job("http", CONNECTIONS, options.spans_per_request, rate)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder,
        Generator(job) as generator,
        serving(Path(folder) / "ledger.duckdb") as server,
    ):
        began, until = generator.start(server, seconds)
        samples = []
        while (now := time.monotonic()) < until:
            if now >= began:
                samples.append((now - began, server.rss_mb()))
            time.sleep(max(0.0, min(began + len(samples) * options.sample_seconds, until) - time.monotonic()))
        samples.append((now - began, server.rss_mb()))
        seen = generator.seen()
        accepted = len(seen.acknowledged_at) * options.spans_per_request
        if (stored := server.spans()) != accepted:
            sys.exit(f"{accepted} spans were acknowledged, but the ledger holds {stored}.")
    return Soak(name, accepted / seconds, samples)


if __name__ == "__main__":
    main()
