"""How many decisions a second ``loopgrid export`` writes, from a running server and from its ledger.

    python bench/export.py --fill-seconds 10

First the server is filled at full load; then each format is exported by the command, as users run it. The
time is the command's own, from its start to its end, manifest and digests included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from generator import Job
from harness import Generator, machine, serving, table, verdict

LEAST_DECISIONS_PER_S: Final = 20_000
"""The aim for jsonl and parquet."""

_FORMATS: Final = ("jsonl", "parquet", "hf", "openai-chat")
_AIMED_AT: Final = ("jsonl", "parquet")


def main() -> None:
    """Fill, export, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--fill-seconds", type=float, default=10, help="length of the full load before it")
    parser.add_argument("--folder", default=".", help="where the ledger is made and removed again")
    parser.add_argument("--formats", nargs="*", default=_FORMATS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        print(table(measure(Path(folder), options)))


def measure(folder: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    """What is to be printed."""
    ledger = folder / "ledger.duckdb"
    rows = [("machine", machine())]
    rates: list[float] = []
    with serving(ledger) as server:
        with Generator(Job("http", 4, 512)) as generator:
            generator.run(server, options.fill_seconds)
        for name in options.formats:
            per_s, told = exported(folder / f"server-{name}", name, ["--endpoint", f"http://{server.api}"])
            rows.append((f"{name}, from the server", told))
            rates += [per_s] if name in _AIMED_AT else []
        rows.append(("the server's peak memory", f"{server.peak_mb():,.0f} MB"))
    for name in options.formats:
        _, told = exported(folder / f"file-{name}", name, ["--ledger", str(ledger)])
        rows.append((f"{name}, from the file", told))
    if rates:
        passed = min(rates) >= LEAST_DECISIONS_PER_S
        rows.append((f"at least {LEAST_DECISIONS_PER_S:,} decisions/s", verdict(passed=passed)))
    return rows


def exported(folder: Path, name: str, source: Sequence[str]) -> tuple[float, str]:
    """Decisions a second of one export, and that in words."""
    command = Path(sys.executable).with_name("loopgrid")
    begun = time.monotonic()
    ended = subprocess.run(
        [command, "export", "--format", name, "--output", folder, "--json", *source],
        check=True,
        capture_output=True,
    )
    taken_s = time.monotonic() - begun
    manifest = json.loads(ended.stdout)
    size = sum(file["bytes"] for file in manifest["files"])
    per_s = manifest["decisions"] / taken_s
    return (
        per_s,
        f"{per_s:,.0f} decisions/s ({manifest['decisions']:,} in {taken_s:.1f} s, {size / 1e6:,.0f} MB)",
    )


if __name__ == "__main__":
    main()
