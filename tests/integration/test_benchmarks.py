"""The benchmarks run, on the real server, and print what they promise. Their figures are no claim here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import without_settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def run(repository: Path, folder: Path, script: str, *arguments: str) -> str:
    """What the script prints; its ledgers go to a folder that is empty again afterwards."""
    ledgers = folder / "ledgers"
    ledgers.mkdir()
    done = subprocess.run(
        [sys.executable, str(repository / "bench" / script), "--folder", str(ledgers), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=without_settings(os.environ),
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert list(ledgers.iterdir()) == []
    return done.stdout


def test_ingest_counts_in_the_ledger_what_each_transport_acknowledged(repository: Path, tmp_path: Path):
    load = ("--seconds", "1", "--warm-up", "0.2", "--spans-per-request", "16", "--connections", "2")

    found = json.loads(
        run(
            repository,
            tmp_path,
            "ingest.py",
            "--compare",
            "http,grpc,json",
            *load,
            "--bulk-rows",
            "1000",
            "--json",
        )
    )

    assert [each["transport"] for each in found["runs"]] == ["http", "grpc", "json"]
    assert all(each["spans_per_s"] > 0 and each["ratio_to_bulk"] > 0 for each in found["runs"])
    assert all(each["server_cpu_us"] > each["generator_cpu_us"] >= 0 for each in found["runs"])


def test_ingest_keeps_to_a_rate(repository: Path, tmp_path: Path):
    load = ("--seconds", "2", "--warm-up", "0", "--spans-per-request", "5", "--rate", "50", "--json")

    found = json.loads(run(repository, tmp_path, "ingest.py", *load))["runs"][0]

    assert 0 < found["spans_per_s"] <= 55
    assert found["bulk_rows_per_s"] is None


def test_soak_reports_memory_at_full_and_at_half_load(repository: Path, tmp_path: Path):
    load = ("--minutes", "0.03", "--sample-seconds", "0.3", "--spans-per-request", "16")

    told = run(repository, tmp_path, "soak.py", *load)

    assert re.findall(r"^(\w+) load ", told, re.MULTILINE) == ["full", "half"]
    assert told.count("bytes a span") == 2


def test_dedupe_reports_its_share_with_and_without_known_keys(repository: Path, tmp_path: Path):
    told = run(repository, tmp_path, "dedupe.py", "--seconds", "1", "--known", "5000", "--requests", "1")

    assert re.findall(r"^([\d,]+) keys known", told, re.MULTILINE) == ["0", "5,000"]
    assert told.count("of it, dedupe") == 2


def test_reads_reports_durations_with_and_without_load(repository: Path, tmp_path: Path):
    load = ("--seconds", "1", "--fill-seconds", "1", "--spans-per-request", "16")

    told = run(repository, tmp_path, "reads.py", *load)

    assert "reads without load" in told
    assert "reads under load" in told


def test_replays_reports_pick_up_and_what_waiting_costs(repository: Path, tmp_path: Path):
    told = run(repository, tmp_path, "replays.py", "--replays", "2", "--workers", "3", "--seconds", "0.5")

    assert re.search(r"^pick-up p50, p99 +\d+ ms, \d+ ms$", told, re.MULTILINE)
    assert re.search(r"^server, 3 workers wait +[\d.]+% of a core$", told, re.MULTILINE)


def test_query_reports_each_question_while_spans_arrive(repository: Path, tmp_path: Path):
    load = ("--decisions", "2000", "--rate", "500", "--busy", "0.5", "--rows", "1000")

    told = run(repository, tmp_path, "query.py", *load, "--repeats", "1", "--pages", "3", "--clients", "4")

    assert re.search(r"^ledger +3,000 spans", told, re.MULTILINE)
    assert re.search(r"^4 clients at once +0 failed", told, re.MULTILINE)
    timed = re.findall(r"^(.+?) +p50 [\d,.]+ ms, p99 [\d,.]+ ms", told, re.MULTILINE)
    assert {"page 3", "trace of 1,000 spans", "decision by id, any", "grouping of all decisions"} <= set(
        timed
    )


@pytest.mark.parametrize("rows", ["short", "received"])
def test_startup_reports_a_clean_start_and_one_after_a_kill(repository: Path, tmp_path: Path, rows: str):
    told = run(repository, tmp_path, "startup.py", "--spans", "3000", "--rows", rows, "--wal-bytes", "100000")

    assert re.search(r"^stopped cleanly +3,000 spans", told, re.MULTILINE)
    assert re.search(r"^after kill -9, log of .* 4,000 spans", told, re.MULTILINE)
