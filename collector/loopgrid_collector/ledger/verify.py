"""An independent look at a closed ledger: does everything it holds fit together?

Laws:

* Nothing is shared with the writer but the two definitions that both must agree on: how a record is
  digested, and how digests become a root. The file is opened read-only, by plain DuckDB.
* Records are walked in order of position and the walk ends at the first thing that does not fit, so the
  one sentence it gives is about the earliest damage and not about what follows from it.
* Memory is bounded by one window of commits, whatever the size of the ledger.
* A ledger that cannot be read is not called unsound, and one that was read in part is not called sound.

Holes: what the dialects derived from a record is not covered by its digest, so it is not checked here;
and whoever can write the ledger and its head can write both anew (see ``docs/spec/ledger.md``).
"""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import duckdb

from loopgrid_collector.errors import Fatal, LedgerForeign, LedgerLocked, LedgerNewer, LedgerNotWritable
from loopgrid_collector.ledger import digest as digests
from loopgrid_collector.ledger import merkle
from loopgrid_collector.ledger.statements import parse, text_of

SCHEMA_VERSION: Final = 1
"""The schema that this verifier understands."""

WINDOW_RECORDS: Final = 20_000
"""Records whose digests are in memory at once, unless a single commit holds more."""

_FETCH_ROWS: Final = 1_024
_MEMORY: Final = "512MB"
_SEALS: Final = 5
"""Columns of a record that stand in front of those the digest covers."""
_FIRST_CHAIN: Final = bytes(32)

SQL: Final = parse(text_of("verify.sql"))

Progress = Callable[[int, int], None]
"""Told after each window: records looked at, and records there are."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that does not fit.

    Attributes:
        what: one sentence about it.
        commit_id: the commit it is in, where that is known.
        position: the record, where it is about one.
    """

    what: str
    commit_id: int | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequence numbers of one emitting process that never came, both ends included."""

    producer_id: str
    service_name: str | None
    first_missing: int
    last_missing: int


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        ledger_id: which ledger it is.
        commits: commits that fit.
        records: records in them.
        chain: chain value of the last one, hex. Written down elsewhere, it is what a later look can
            be compared with.
        fault: the first thing that does not fit; None for a sound ledger.
        notes: what is no fault and should be known.
    """

    ledger_id: str
    commits: int = 0
    records: int = 0
    chain: str = _FIRST_CHAIN.hex()
    fault: Fault | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether everything fits."""
        return self.fault is None


@dataclass(frozen=True, slots=True)
class _Commit:
    commit_id: int
    first_record: int
    records: int
    root: bytes
    previous: bytes
    chain: bytes
    time_us: int

    @property
    def beyond(self) -> int:
        return self.first_record + self.records


@dataclass(frozen=True, slots=True)
class _Record:
    table: str
    commit_id: int
    time_us: int
    digest: bytes
    fits: bool


class _Unfit(Exception):
    """The walk's own signal; it never leaves this module."""

    def __init__(self, what: str, commit_id: int | None = None, position: int | None = None) -> None:
        super().__init__(what)
        self.fault = Fault(what, commit_id, position)


class Verification:
    """A closed ledger under examination; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            LedgerLocked: a process, such as a running server, has it open.
            LedgerNewer: a newer version wrote it.
            LedgerForeign: it is no ledger, or too damaged to be opened.
            LedgerNotWritable: it may not be read.
        """
        self._path = path
        self._scratch = tempfile.TemporaryDirectory(prefix="loopgrid-verify-")
        try:
            self._connection = _opened(path, self._scratch.name)
            self._ledger_id = _identified(self._connection, path)
        except BaseException:
            self._scratch.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._scratch.cleanup()

    def evidence(self, progress: Progress | None = None) -> Report:
        """Recompute every digest, root and chain value, and compare the end with the head file."""
        report = Report(self._ledger_id)
        try:
            head = _read_head(self._path)
            attested = self._walk(report, head, progress)
            _compare_with_head(report, head, attested)
        except _Unfit as unfit:
            report.fault = unfit.fault
        except duckdb.Error as error:
            # A block whose checksum is wrong, a table that is gone: it was readable enough to be opened.
            report.fault = Fault(
                f"After commit {report.commits} the file cannot be read: {str(error).splitlines()[0]}"
            )
        except (TypeError, ValueError, AttributeError, struct.error):
            report.fault = Fault(
                f"After commit {report.commits} a stored value has a type that the ledger never writes."
            )
        return report

    def gaps(self) -> tuple[int, list[Gap]]:
        """How many emitting processes count what they send, and every range that never came.

        Raises:
            LedgerForeign: the file is damaged.
        """
        try:
            (producers,) = _one(self._connection, "producers")
            rows = self._connection.execute(SQL["gaps"]).fetchall()
        except duckdb.Error as error:
            raise _damaged(self._path, error) from error
        return producers, [Gap(*row) for row in rows]

    def _walk(
        self, report: Report, head: Mapping[str, Any] | None, progress: Progress | None
    ) -> _Commit | None:
        """All commits with their records. Returns the commit that the head names, if it is there."""
        (claimed,) = _one(self._connection, "records_claimed")
        attested: _Commit | None = None
        for window in self._windows():
            records = self._records(window[0].first_record, window[-1].beyond)
            for commit in window:
                _check_commit(commit, records)
                report.commits, report.records = commit.commit_id, commit.beyond
                report.chain = commit.chain.hex()
                if head is not None and head["commit_id"] == commit.commit_id:
                    attested = commit
            if progress is not None:
                progress(report.records, int(claimed))
        stray = self._connection.execute(SQL["strays"], {"records": report.records}).fetchone()
        if stray is not None:
            raise _Unfit(
                f"store.{stray[1]} holds a record at position {stray[0]}, which belongs to no commit: "
                "it was inserted from outside, or the commit that held it was removed.",
                position=stray[0],
            )
        return attested

    def _windows(self) -> Iterator[list[_Commit]]:
        """Commits that follow each other, some at a time. A broken link is told after what precedes it."""
        window: list[_Commit] = []
        before = _Commit(0, 0, 0, b"", b"", _FIRST_CHAIN, 0)
        with self._connection.cursor() as cursor:
            cursor.execute(SQL["commits"])
            while rows := cursor.fetchmany(_FETCH_ROWS):
                for row in rows:
                    commit = _Commit(*row)
                    try:
                        _check_link(before, commit)
                    except _Unfit:
                        if window:
                            yield window
                        raise
                    window.append(commit)
                    before = commit
                    if commit.beyond - window[0].first_record >= WINDOW_RECORDS:
                        yield window
                        window = []
        if window:
            yield window

    def _records(self, first: int, beyond: int) -> dict[int, _Record]:
        """All records in a range of positions.

        Raises:
            _Unfit: two of them claim one position.
        """
        found: dict[int, _Record] = {}
        repeated: dict[int, str] = {}
        for form in digests.FORMS:
            cursor = self._connection.execute(SQL[form.table], {"first": first, "beyond": beyond})
            names = [column[0] for column in cursor.description or ()][_SEALS:]
            while rows := cursor.fetchmany(_FETCH_ROWS):
                positions, commits, times, salts, claimed, *covered = zip(*rows, strict=True)
                actual = digests.digests(form, dict(zip(names, covered, strict=True)), salts)
                for place, commit_id, time_us, digest, recomputed in zip(
                    positions, commits, times, claimed, actual, strict=True
                ):
                    if place in found:
                        repeated.setdefault(place, form.table)
                    found[place] = _Record(form.table, commit_id, time_us, digest, digest == recomputed)
        for place, table in repeated.items():
            found[place] = _Record(table, -1, -1, b"", fits=False)
        return found


def _opened(path: Path, scratch: str) -> duckdb.DuckDBPyConnection:
    if not path.is_file():
        raise LedgerForeign(f"There is no ledger at {path}; name one with --ledger.")
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "temp_directory": scratch,
        "autoinstall_known_extensions": False,
    }
    try:
        connection = duckdb.connect(path, read_only=True, config=settings)
        connection.execute("SET TimeZone = 'UTC'")
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        if "Could not set lock" in reason:
            raise LedgerLocked(
                f"{path} is open in another process, probably a running server: stop it, or verify a copy of "
                "the file, its .wal and its .head that were taken together."
            ) from error
        if "Permission denied" in reason:
            raise LedgerNotWritable(f"{path} may not be read; change its permissions.") from error
        raise _damaged(path, error) from error
    return connection


def _damaged(path: Path, error: duckdb.Error) -> LedgerForeign:
    reason = str(error).splitlines()[0]
    return LedgerForeign(f"{path} is damaged, or no DuckDB file, and cannot be read: {reason}")


def _identified(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    try:
        if not _one(connection, "is_ledger")[0]:
            raise LedgerForeign(f"{path} is a DuckDB file of something else; name a ledger with --ledger.")
        ledger_id, version = _one(connection, "identity")
        if version > SCHEMA_VERSION:
            raise LedgerNewer(f"{path} has ledger schema {version}; upgrade LoopGrid to verify it.")
    except duckdb.Error as error:
        connection.close()
        raise _damaged(path, error) from error
    except Fatal:
        connection.close()
        raise
    return str(ledger_id)


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(SQL[query]).fetchone()
    if row is None:
        raise LedgerForeign("The ledger's own description is missing; restore the file from a backup.")
    return row


def _check_link(before: _Commit, commit: _Commit) -> None:
    """Whether a commit follows the one before it."""
    name, expected = f"Commit {commit.commit_id}", before.commit_id + 1
    if commit.commit_id <= before.commit_id:
        raise _Unfit(f"{name} is there twice.", commit.commit_id)
    if commit.commit_id != expected:
        raise _Unfit(
            f"Commit {expected} is missing: {commit.commit_id} follows {before.commit_id}.", expected
        )
    if commit.first_record != before.beyond or commit.records < 1:
        raise _Unfit(
            f"{name} claims {commit.records} records from position {commit.first_record} on, "
            f"but position {before.beyond} is the next one.",
            commit.commit_id,
        )
    if commit.previous != before.chain:
        raise _Unfit(f"{name} is not chained to the commit before it.", commit.commit_id)
    expected_chain = digests.chain(
        before.chain, commit.commit_id, commit.first_record, commit.records, commit.root, commit.time_us
    )
    if commit.chain != expected_chain:
        raise _Unfit(
            f"{name}: its chain value does not come from its number, records, root and time.",
            commit.commit_id,
        )


def _check_commit(commit: _Commit, records: Mapping[int, _Record]) -> None:
    """Whether a commit holds the records that it was made over."""
    leaves: list[bytes] = []
    for position in range(commit.first_record, commit.beyond):
        record = records.get(position)
        if record is None:
            raise _Unfit(
                f"Record {position} of commit {commit.commit_id} is missing.", commit.commit_id, position
            )
        wrong = _wrong_about(record, commit)
        if wrong:
            raise _Unfit(
                f"Record {position} of commit {commit.commit_id}, in store.{record.table}, {wrong}.",
                commit.commit_id,
                position,
            )
        leaves.append(record.digest)
    if merkle.root(leaves) != commit.root:
        raise _Unfit(
            f"Commit {commit.commit_id}: the digests of its {commit.records} records do not give its root; "
            "a record was replaced together with its digest, or records changed places.",
            commit.commit_id,
        )


def _wrong_about(record: _Record, commit: _Commit) -> str | None:
    if not record.digest:
        return "is one of several that claim this position"
    if not record.fits:
        return "does not match its digest: what was received, its salt or the digest was edited"
    if record.commit_id != commit.commit_id:
        return f"claims to belong to commit {record.commit_id}"
    if record.time_us != commit.time_us:
        return "claims another time than its commit"
    return None


def _read_head(path: Path) -> Mapping[str, Any] | None:
    """The head file as it stands; None where there is none."""
    file = path.with_name(path.name + ".head")
    try:
        head = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _Unfit(f"The head file {file} cannot be read; restore it from a backup.") from error
    wanted = {"ledger_id": str, "commit_id": int, "records": int, "chain": str}
    if not isinstance(head, dict) or any(not isinstance(head.get(key), kind) for key, kind in wanted.items()):
        raise _Unfit(f"The head file {file} does not name a commit; restore it from a backup.")
    return head


def _compare_with_head(report: Report, head: Mapping[str, Any] | None, attested: _Commit | None) -> None:
    if head is None:
        raise _Unfit(
            "What is there fits, but the head file is missing, so nothing says how much there must be; "
            "restore it from a backup."
        )
    if head["ledger_id"] != report.ledger_id:
        raise _Unfit("The head file belongs to another ledger.")
    if head["commit_id"] > report.commits:
        raise _Unfit(
            f"The ledger ends at commit {report.commits} ({report.records} records), but commit "
            f"{head['commit_id']} ({head['records']} records) was acknowledged.",
            report.commits + 1,
        )
    at_head = (0, _FIRST_CHAIN.hex()) if attested is None else (attested.beyond, attested.chain.hex())
    if at_head != (head["records"], head["chain"]):
        raise _Unfit(
            f"Commit {head['commit_id']} is not the one that was acknowledged: the head file holds another "
            "chain value for it, so the ledger was rewritten.",
            head["commit_id"],
        )
    if head["commit_id"] < report.commits:
        report.notes.append(
            f"The head file attests commit {head['commit_id']} of {report.commits}: normal after a crash, "
            "and caught up at the next start; otherwise an old copy of it was put in place."
        )
