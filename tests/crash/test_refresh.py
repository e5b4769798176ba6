"""The file is closed and opened again while the server works: nothing lost, doubled or cut off."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import StorageTrouble
from loopgrid_collector.ledger.opening import open_ledger
from loopgrid_collector.ledger.verify import Verification
from tests.support.ledgers import House, house
from tests.support.spans import chat, traces

pytestmark = pytest.mark.crash

EVERY_COMMIT = 1
THIEF = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
print("has it", flush=True)
sys.stdin.read()
"""


def refreshed(it: House) -> int:
    """How often, once the writer is at rest."""
    with it.ledger.copying():
        return it.ledger.measures.counts()["refreshed"]


def stored(it: House) -> int:
    return int(it.rows("SELECT count(*) FROM spans")[0][0])


def sound(folder: Path) -> bool:
    with Verification(folder / "test.duckdb") as verification:
        return verification.evidence().sound


def test_what_was_stored_is_there_and_known_afterwards(tmp_path: Path) -> None:
    with house(tmp_path, reopen_rows=EVERY_COMMIT) as it:
        for number in range(1, 6):
            assert 1 == it.ingest.traces_blocking(traces(chat(number))).stored
            assert number == refreshed(it) == stored(it)
        assert 5 == it.ingest.traces_blocking(traces(*map(chat, range(1, 7)))).duplicates
        assert [] == it.broken_evidence()
        assert it.ledger.usable
    assert sound(tmp_path)


def test_it_happens_after_so_many_rows_or_never(tmp_path: Path) -> None:
    with house(tmp_path, reopen_rows=3) as it:
        for number in range(1, 8):
            it.ingest.traces_blocking(traces(chat(number)))
        assert 2 == refreshed(it)
    with house(tmp_path, reopen_rows=0) as it:
        it.ingest.traces_blocking(traces(*map(chat, range(20))))
        assert 0 == refreshed(it)


def test_a_reader_is_not_cut_off(tmp_path: Path) -> None:
    with house(tmp_path, reopen_rows=EVERY_COMMIT) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        before = refreshed(it)
        with it.ledger.cursor() as reader:
            pages = reader.execute("SELECT range FROM range(1000000)")
            assert (0,) == pages.fetchone()
            assert 1 == it.ingest.traces_blocking(traces(chat(2))).stored
            assert before == refreshed(it)
            assert (1,) == pages.fetchone()
        it.ingest.traces_blocking(traces(chat(3)))
        assert before + 1 == refreshed(it)


def test_a_reader_that_wants_a_second_cursor_gets_it(tmp_path: Path) -> None:
    """The writer waits for the first, the second waits for the writer: the writer gives up."""
    with house(tmp_path, reopen_rows=EVERY_COMMIT) as it, it.ledger.cursor() as first:
        it.ingest.traces_blocking(traces(chat(1)))
        with it.ledger.cursor() as second:
            assert first.execute("SELECT 1").fetchone() == second.execute("SELECT 1").fetchone()


def test_a_copy_is_not_disturbed(tmp_path: Path) -> None:
    with house(tmp_path, reopen_rows=EVERY_COMMIT) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        before = refreshed(it)
        with it.ledger.copying() as (extent, holds):
            it.ingest.traces_blocking(traces(chat(2)))
            assert holds()
            assert extent.path.exists()
        assert before == refreshed(it)


def test_readers_and_writers_of_every_moment_see_a_whole_ledger(tmp_path: Path) -> None:
    done = threading.Event()

    def read(it: House) -> int:
        seen = 0
        while not done.is_set():
            now = stored(it)
            assert now >= seen
            seen = now
        return seen

    with house(tmp_path, reopen_rows=EVERY_COMMIT) as it, ThreadPoolExecutor(6) as pool:
        reading = [pool.submit(read, it) for _ in range(3)]
        try:
            sent = [
                pool.submit(it.ingest.traces_blocking, traces(*(chat(40 * batch + n) for n in range(1, 41))))
                for batch in range(60)
            ]
            assert 2_400 == sum(receipt.result().stored for receipt in sent)
        finally:
            done.set()
        assert all(reader.result() <= 2_400 for reader in reading)
        assert 2_400 == stored(it)
        assert refreshed(it) > 0
    assert sound(tmp_path)


def test_another_process_that_takes_the_file_meanwhile_gets_refusals_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For some milliseconds nobody holds the file's lock."""
    thieves: list[subprocess.Popen[str]] = []

    def late(config: CollectorConfig, *others: Any) -> Any:
        if not thieves:
            command = [sys.executable, "-c", THIEF, config.ledger]
            thief = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            thieves.append(thief)
            assert thief.stdout
            assert "has it\n" == thief.stdout.readline()
        return open_ledger(config, *others)

    with house(tmp_path, reopen_rows=EVERY_COMMIT) as it:
        monkeypatch.setattr("loopgrid_collector.ledger.ledger.open_ledger", late)
        assert 1 == it.ingest.traces_blocking(traces(chat(1))).stored
        with pytest.raises(StorageTrouble):
            it.ingest.traces_blocking(traces(chat(2)))
        assert it.ledger.trouble is not None
        with pytest.raises(StorageTrouble), it.ledger.cursor():
            pass

        thieves[0].communicate("")

        receipt = it.ingest.traces_blocking(traces(chat(1), chat(2)))
        assert (1, 1) == (receipt.stored, receipt.duplicates)
        assert it.ledger.standing().usable
        assert [] == it.broken_evidence()
    assert sound(tmp_path)


def test_another_server_does_not_get_a_ledger_that_was_opened_again(tmp_path: Path) -> None:
    """POSIX locks go with any descriptor of the file that a process closes."""
    with house(tmp_path, reopen_rows=EVERY_COMMIT) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        assert 1 == refreshed(it)
        file = str(tmp_path / "test.duckdb")
        command = [sys.executable, "-c", THIEF, file]
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert "Could not set lock" in asked.stderr
