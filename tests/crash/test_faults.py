"""Storage that fails at each durable step: nothing lost, doubled or invented, and no restart needed."""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.decoding import traces_append
from loopgrid_collector.errors import Fatal, LedgerForeign, LedgerShorter, StorageTrouble
from loopgrid_collector.ledger import head as heads
from loopgrid_collector.ledger.opening import open_ledger
from loopgrid_collector.ledger.records import Receipt
from loopgrid_collector.ledger.verify import Verification
from tests.support.ledgers import House, house
from tests.support.spans import chat, span, traces

pytestmark = pytest.mark.crash

FILE = "test.duckdb"
ERRORS = (duckdb.IOException, duckdb.FatalException)


class Faulty:
    """The real connection, of which one statement fails once: before it is run, or after it took effect."""

    def __init__(
        self, real: duckdb.DuckDBPyConnection, begins: str, error: Exception, *, after: bool
    ) -> None:
        self.real = real
        self.begins = begins
        self.error = error
        self.after = after
        self.armed = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def execute(self, statement: str, *parameters: Any) -> Any:
        words = re.sub(r"^--.*\n", "", statement, flags=re.MULTILINE).lstrip()
        if not self.armed or not words.startswith(self.begins):
            return self.real.execute(statement, *parameters)
        self.armed = False
        if self.after:
            self.real.execute(statement, *parameters)
        raise self.error


def break_once(it: House, begins: str, error: Exception, *, after: bool) -> Faulty:
    opened = it.ledger._opened
    faulty = Faulty(opened.connection, begins, error, after=after)
    it.ledger._opened = dataclasses.replace(opened, connection=faulty)  # type: ignore[arg-type]
    return faulty


def sound(folder: Path) -> int:
    """How many records the closed ledger holds, after everything about it was recomputed."""
    with Verification(folder / FILE) as verification:
        report = verification.evidence()
    assert (report.fault, report.notes) == (None, [])
    return report.records


def stored(it: House) -> list[int]:
    return [int(span_id, 16) for (span_id,) in it.rows("SELECT span_id FROM spans ORDER BY span_id")]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("again", ["same", "other"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["BEGIN", "INSERT INTO store.spans", "INSERT INTO store.commits", "COMMIT"])
def test_a_step_of_a_commit_fails(
    tmp_path: Path, step: str, after: bool, again: str, error: type[Exception]
) -> None:
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        faulty = break_once(it, step, error("injected"), after=after)
        with pytest.raises(StorageTrouble, match="nothing of this request is acknowledged"):
            it.ingest.traces_blocking(traces(chat(2), chat(3)))
        assert not faulty.armed
        took_effect = step == "COMMIT" and after

        second = traces(chat(2), chat(3)) if again == "same" else traces(chat(4))
        receipt = it.ingest.traces_blocking(second)

        if again == "same":
            assert (receipt.stored, receipt.duplicates) == ((0, 2) if took_effect else (2, 0))
            assert [1, 2, 3] == stored(it)
        else:
            assert (1, 0) == (receipt.stored, receipt.duplicates)
            assert ([1, 2, 3, 4] if took_effect else [1, 4]) == stored(it)
        assert it.ledger.usable
        assert [] == it.broken_evidence()
        held = len(stored(it))
    assert held == sound(tmp_path)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_commit_that_several_share_fails_and_each_is_told_the_truth(
    tmp_path: Path, after: bool, error: type[Exception]
) -> None:
    """Tried alone where nothing was left behind; never tried again by us where something was."""
    with house(tmp_path) as it:
        break_once(it, "COMMIT", error("injected"), after=after)
        group = [_waiting(it, number) for number in (1, 2, 3)]
        it.ledger._commit_group(group)
        outcomes = [waiting.future.exception() for waiting in group]

        assert (
            [StorageTrouble] * 3 == [type(outcome) for outcome in outcomes]
            if after
            else outcomes == [None] * 3
        )
        assert [1, 2, 3] == stored(it)
        assert [] == it.broken_evidence()


def _waiting(it: House, number: int) -> Any:
    from loopgrid_collector.ledger.ledger import _Waiting

    return _Waiting(traces_append(traces(chat(number))), Future[Receipt]())


@pytest.mark.parametrize("again", ["same", "other"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_no_room_for_the_head_calls_the_commit_off(
    tmp_path: Path, after: bool, again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused is not there: a mark or a decision sent again does not stand twice."""
    prepare = heads.prepare

    def failing(path: Path, head: heads.Head) -> None:
        if after:
            prepare(path, head)
        raise OSError(28, "No space left on device")

    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        with monkeypatch.context() as patch:
            patch.setattr(heads, "prepare", failing)
            with pytest.raises(StorageTrouble):
                it.ingest.traces_blocking(traces(chat(2)))
            assert [1] == stored(it)
        receipt = it.ingest.traces_blocking(traces(chat(2 if again == "same" else 3)))

        assert (1, 0) == (receipt.stored, receipt.duplicates)
        assert ([1, 2] if again == "same" else [1, 3]) == stored(it)
    assert 2 == sound(tmp_path)


@pytest.mark.parametrize("again", ["same", "other"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_the_head_cannot_be_put_in_place(
    tmp_path: Path, after: bool, again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = heads.publish

    def failing(path: Path) -> None:
        if after:
            publish(path)
        raise OSError(5, "Input/output error")

    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        with monkeypatch.context() as patch:
            patch.setattr(heads, "publish", failing)
            with pytest.raises(StorageTrouble):
                it.ingest.traces_blocking(traces(chat(2)))
        receipt = it.ingest.traces_blocking(traces(chat(2 if again == "same" else 3)))

        assert (1, 0) == ((receipt.duplicates, receipt.stored) if again == "same" else (receipt.stored, 0))
        assert ([1, 2] if again == "same" else [1, 2, 3]) == stored(it)
    assert (2 if again == "same" else 3) == sound(tmp_path)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_checkpoint_fails(tmp_path: Path, after: bool, error: type[Exception]) -> None:
    """What was acknowledged before it stays so, and the next append works."""
    with house(tmp_path, checkpoint_wal_bytes=1) as it:
        faulty = break_once(it, "CHECKPOINT", error("injected"), after=after)
        assert 1 == it.ingest.traces_blocking(traces(chat(1))).stored
        assert 1 == it.ingest.traces_blocking(traces(chat(1), chat(2))).duplicates

        assert not faulty.armed
        assert [1, 2] == stored(it)
        assert [] == it.broken_evidence()
    assert 2 == sound(tmp_path)


def test_the_ledger_cannot_be_opened_again_for_a_while(tmp_path: Path) -> None:
    """Refusals meanwhile, for writers and readers; then it resumes without a restart."""
    with house(tmp_path) as it, it.ledger.cursor() as reader:
        it.ingest.traces_blocking(traces(chat(1)))
        head = (tmp_path / (FILE + ".head")).read_bytes()
        (tmp_path / (FILE + ".head")).write_bytes(b"damaged")
        break_once(it, "INSERT INTO store.spans", duckdb.FatalException("injected"), after=True)
        for _ in range(3):
            with pytest.raises(StorageTrouble):
                it.ingest.traces_blocking(traces(chat(2)))
        with pytest.raises(StorageTrouble), it.ledger.cursor():
            pass
        with pytest.raises(duckdb.ConnectionException):
            reader.execute("SELECT 1")
        assert not it.ledger.usable

        (tmp_path / (FILE + ".head")).write_bytes(head)

        assert 1 == it.ingest.traces_blocking(traces(chat(2))).stored
        assert [1, 2] == stored(it)
        assert 1 == it.ledger.measures.counts()["reopened"]
    assert 2 == sound(tmp_path)


def test_an_idle_ledger_folds_its_log(tmp_path: Path) -> None:
    with house(tmp_path, checkpoint_idle_s=0.01) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        while not it.ledger.measures.checkpoint.read()[0][-1][1]:
            assert [1] == stored(it)
        assert 0 == it.ledger.standing().wal_bytes


def test_a_checkpoint_that_a_reader_prevents_is_put_off_and_not_tried_at_every_commit(tmp_path: Path) -> None:
    with house(tmp_path, checkpoint_wal_bytes=100_000) as it:
        faulty = break_once(it, "CHECKPOINT", duckdb.TransactionException("a reader"), after=False)
        first = 1
        while faulty.armed:
            it.ingest.traces_blocking(traces(*(chat(number) for number in range(first, first + 20))))
            first += 20
        faulty.armed = True
        it.ingest.traces_blocking(traces(chat(1_000_000)))

        assert faulty.armed, "a commit right after it does not try again"
        assert 1 == it.ledger.measures.counts()["checkpoints_put_off"]


class TestFileSizeLimit:
    """A real failure of the write that anybody can cause."""

    @contextmanager
    def no_file_longer_than(self, size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def test_the_log_cannot_grow_and_then_can(self, tmp_path: Path) -> None:
        with house(tmp_path) as it:
            it.ingest.traces_blocking(traces(chat(1)))
            wal = it.ledger.standing().wal_bytes
            with self.no_file_longer_than(wal + 100), pytest.raises(StorageTrouble):
                it.ingest.traces_blocking(traces(chat(2)))
            assert [1] == stored(it)

            assert 1 == it.ingest.traces_blocking(traces(chat(2))).stored
            assert [1, 2] == stored(it)
        assert 2 == sound(tmp_path)

    def test_the_file_cannot_grow_at_a_checkpoint_and_then_can(self, tmp_path: Path) -> None:
        with house(tmp_path, checkpoint_wal_bytes=20_000) as it:
            it.ingest.traces_blocking(traces(chat(1)))
            size = it.ledger.standing().file_bytes
            acknowledged = {1}
            with self.no_file_longer_than(max(size, 50_000)):
                for number in range(2, 40):
                    try:
                        it.ingest.traces_blocking(traces(chat(number)))
                    except StorageTrouble:
                        continue
                    acknowledged.add(number)
            assert 1 == it.ingest.traces_blocking(traces(chat(99))).stored

            assert acknowledged | {99} <= set(stored(it))
            assert len(stored(it)) == len(set(stored(it)))
            assert [] == it.broken_evidence()
            held = len(stored(it))
        assert held == sound(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB and 64 files."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=64", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"this system does not let us mount: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, leave_bytes: int = 0) -> Iterator[None]:
    """The disk full but for so many bytes, for a while."""
    filler = disk / "filler"
    found = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - leave_bytes)
    try:
        yield
    finally:
        filler.unlink()


class TestFullDisk:
    """Real ENOSPC at each stage; service resumes when space returns."""

    def send_all(self, it: House, numbers: range) -> set[int]:
        """The numbers that were acknowledged."""
        acknowledged = set()
        for number in numbers:
            try:
                it.ingest.traces_blocking(traces(chat(number)))
            except StorageTrouble:
                continue
            acknowledged.add(number)
        return acknowledged

    def settled(self, it: House, disk: Path, acknowledged: set[int], numbers: range) -> None:
        """Sent again, everything is there once."""
        assert acknowledged <= set(stored(it)) <= set(numbers)
        assert set(numbers) == self.send_all(it, numbers)
        assert list(numbers) == stored(it)
        assert [] == it.broken_evidence()
        it.ingest.close()
        it.ledger.close()
        assert len(numbers) == sound(disk)

    def test_while_the_log_is_written(self, disk: Path) -> None:
        with house(disk, min_free_bytes=0) as it:
            acknowledged = self.send_all(it, range(1, 4))
            with filled(disk):
                for number in range(4, 40):
                    acknowledged |= self.send_all(it, range(number, number + 1))
                assert acknowledged <= set(stored(it)), "reads go on"
            assert len(acknowledged) < 39
            self.settled(it, disk, acknowledged, range(1, 40))

    @pytest.mark.parametrize("leave_bytes", [4_096, 65_536, 300_000])
    def test_at_a_checkpoint(self, disk: Path, leave_bytes: int) -> None:
        with house(disk, min_free_bytes=0, checkpoint_wal_bytes=20_000) as it:
            acknowledged = self.send_all(it, range(1, 4))
            with filled(disk, leave_bytes):
                acknowledged |= self.send_all(it, range(4, 60))
            self.settled(it, disk, acknowledged, range(1, 60))

    def test_when_the_head_is_written(self, disk: Path) -> None:
        """No room for one file more: the head's temporary file cannot be made."""
        with house(disk, min_free_bytes=0) as it:
            acknowledged = self.send_all(it, range(1, 4))
            extra: list[Path] = []
            while os.statvfs(disk).f_favail:
                extra.append(disk / f"extra-{len(extra)}")
                extra[-1].touch()
            assert set() == self.send_all(it, range(4, 6))
            for file in extra:
                file.unlink()
            self.settled(it, disk, acknowledged, range(1, 6))

    def test_at_the_start_of_a_new_ledger(self, disk: Path) -> None:
        with filled(disk), pytest.raises(Fatal), house(disk):
            pass
        for left in disk.iterdir():
            left.unlink()
        with house(disk, min_free_bytes=0) as it:
            self.settled(it, disk, set(), range(1, 3))

    def test_at_the_start_of_a_killed_ledger(self, disk: Path, tmp_path: Path) -> None:
        """It opens or it refuses; in either case all is there when space has returned."""
        with house(tmp_path) as it:
            acknowledged = self.send_all(it, range(1, 20))
            for name in (FILE, FILE + ".wal", FILE + ".head"):
                shutil.copy(tmp_path / name, disk / name)
        with filled(disk):
            try:
                with house(disk, min_free_bytes=0) as it:
                    assert acknowledged <= set(stored(it))
            except Fatal as error:
                assert "space" in str(error)  # noqa: PT017 — either outcome is right
        with house(disk, min_free_bytes=0) as it:
            self.settled(it, disk, acknowledged, range(1, 20))

    def test_before_the_disk_is_full_nothing_more_is_taken(self, disk: Path) -> None:
        with house(disk, min_free_bytes=2 * 2**20) as it:
            acknowledged = self.send_all(it, range(1, 3))
            with filled(disk, leave_bytes=2**20):
                with pytest.raises(StorageTrouble, match="bytes left") as refusal:
                    it.ingest.traces_blocking(traces(chat(3)))
                assert refusal.value.retry_after_s > 0
                assert not it.ledger.usable
                assert 1 == it.ledger.measures.counts()["refused_low_space"]
            self.settled(it, disk, acknowledged, range(1, 4))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger as a kill leaves it: three acknowledged commits, all of them in the log."""
    folder, left = tmp_path_factory.mktemp("alive"), tmp_path_factory.mktemp("killed")
    with house(folder) as it:
        for number in (1, 2, 3):
            it.ingest.traces_blocking(traces(chat(number)))
        for name in (FILE, FILE + ".wal", FILE + ".head"):
            shutil.copy(folder / name, left / name)
    return left


def opens_with(killed: Path, folder: Path, change: Callable[[bytes], bytes]) -> list[int] | Fatal:
    """What a start finds with a log that was changed: all that was acknowledged, or a refusal."""
    for name in (FILE, FILE + ".head"):
        shutil.copy(killed / name, folder / name)
    (folder / (FILE + ".wal")).write_bytes(change((killed / (FILE + ".wal")).read_bytes()))
    try:
        opened = open_ledger(CollectorConfig(ledger=str(folder / FILE)))
    except Fatal as refusal:
        return refusal
    try:
        rows = opened.connection.execute("SELECT span_id FROM store.spans ORDER BY span_id").fetchall()
    finally:
        opened.connection.close()
    return [number for (number,) in rows]


def test_a_log_that_is_whole_opens(killed: Path, tmp_path: Path) -> None:
    assert [1, 2, 3] == opens_with(killed, tmp_path, lambda log: log)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda log: log[:-1], id="last byte cut"),
        pytest.param(lambda log: log[:-100], id="tail cut"),
        pytest.param(lambda log: log[: len(log) // 2], id="cut in half"),
        pytest.param(lambda log: b"", id="emptied"),
        pytest.param(lambda log: log[:-200] + bytes(200), id="tail zeroed"),
    ],
)
def test_a_log_that_lost_something_is_refused(
    killed: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    assert isinstance(opens_with(killed, tmp_path, change), LedgerShorter | LedgerForeign)


def test_a_bit_flipped_in_the_log_is_refused(killed: Path, tmp_path: Path) -> None:
    size = (killed / (FILE + ".wal")).stat().st_size
    for place in range(size // 20, size, size // 10):

        def flip(log: bytes, place: int = place) -> bytes:
            return log[:place] + bytes([log[place] ^ 4]) + log[place + 1 :]

        assert isinstance(opens_with(killed, tmp_path, flip), LedgerShorter | LedgerForeign), place


CUT_EVERY_BYTES = 17
"""1 cuts at every byte, which takes some minutes and was seen to hold."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_log_cut_anywhere_never_opens_with_less_than_was_acknowledged(tmp_path: Path) -> None:
    """Two small commits; cut at places that fall on every kind of field, and at each byte near the end."""
    alive, killed, folder = (tmp_path / name for name in ("alive", "killed", "start"))
    for each in (alive, killed, folder):
        each.mkdir()
    with house(alive) as it:
        it.ingest.traces_blocking(traces(span(1)))
        it.ingest.traces_blocking(traces(span(2)))
        for name in (FILE, FILE + ".wal", FILE + ".head"):
            shutil.copy(alive / name, killed / name)
    silent = {}
    whole = (killed / (FILE + ".wal")).stat().st_size
    for size in sorted({*range(0, whole, CUT_EVERY_BYTES), *range(whole - 64, whole)}):
        outcome = opens_with(killed, folder, lambda log, size=size: log[:size])  # type: ignore[misc]
        if outcome != [1, 2] and not isinstance(outcome, LedgerShorter | LedgerForeign):
            silent[size] = outcome

    assert silent == {}
