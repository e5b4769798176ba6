"""Opening a ledger: attach, create or recognise, compare with the head, lock down.

Every way in which this can fail is a ``Fatal`` whose message says what to do. Nothing already stored
is touched by a refusal.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol, Self

import duckdb

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import (
    Fatal,
    LedgerForeign,
    LedgerLocked,
    LedgerNewer,
    LedgerNotWritable,
    LedgerShorter,
    Misconfigured,
)
from loopgrid_collector.ledger import head as heads
from loopgrid_collector.ledger.as_of_macros import macros
from loopgrid_collector.ledger.digest import DIGEST_BYTES
from loopgrid_collector.ledger.head import Head
from loopgrid_collector.ledger.known import RUN_KEYS, KnownKeys, fingerprints
from loopgrid_collector.ledger.statements import OVERLAY, QUERIES, SCHEMA, VIEWS

SCHEMA_VERSION: Final = 1
CATALOG: Final = "ledger"
TRACE_ID_BYTES: Final = 16
_FIRST_CHAIN: Final = bytes(DIGEST_BYTES)
_log = logging.getLogger(__name__)
# Checkpoints are ours to schedule: DuckDB's own, at 16 MiB, costs throughput and comes at any moment.
_NO_AUTOMATIC_CHECKPOINT: Final = "1TB"

STORAGE_VERSION: Final = "v1.5.0"
"""The file format. DuckDB's default can be read by older releases, and lacks zstd and the cheaper
dictionaries; older releases cannot read a ledger's views anyway."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open ledger and where it stands.

    Attributes:
        connection: the writer's; readers take cursors from it.
        path: the file.
        head: the newest commit.
        known: the keys of all stored spans.
    """

    connection: duckdb.DuckDBPyConnection
    path: Path
    head: Head
    known: KnownKeys


class Door(Protocol):
    """Something that DuckDB itself serves, on the ledger's handle."""

    def begin(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Serve; the handle is not locked down yet."""

    def end(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Serve no more; the handle is about to be closed."""


def now() -> datetime:
    """The wall clock, UTC, without time zone, as the ledger stores times."""
    return datetime.now(UTC).replace(tzinfo=None)


def open_ledger(config: CollectorConfig, door: Door | None = None, before: Opened | None = None) -> Opened:
    """Open the ledger that the settings name, creating it where there is none.

    Args:
        config: the settings.
        door: what DuckDB serves on the handle.
        before: how this process had it open last. Where it ends at the same commit, what was known then is
            taken over; to read the keys of ten million spans takes seconds.

    Raises:
        Fatal: see the subclasses in ``errors``.
    """
    path = Path(config.ledger).expanduser().absolute()
    if "://" in config.ledger or config.ledger.startswith("ducklake:"):
        raise LedgerForeign(
            f"{config.ledger!r} is not supported by this version; give the path of a DuckDB file."
        )
    connection = duckdb.connect()
    try:
        _attach(connection, path, config)
        identity = _recognise(connection, path)
        head = _last_commit(connection, identity)
        _compare_with_head_file(connection, path, head)
        known = before.known if before and before.head == head else _known_keys(connection)
        if door is not None:
            door.begin(connection)
        _lock_down(connection)
    except duckdb.OutOfMemoryException as error:
        connection.close()
        raise Misconfigured(
            f"LOOPGRID_DUCKDB_MEMORY is {config.duckdb_memory!r}, which is too little to open {path}; "
            'write more, as in "1GB".'
        ) from error
    except duckdb.Error as error:
        connection.close()
        raise LedgerNotWritable(
            f"{path} could not be opened for writing ({str(error).splitlines()[0]}). Look at the free disk "
            "space; what was acknowledged is still in the file and its .wal, so keep the two together."
        ) from error
    except BaseException:
        connection.close()
        raise
    return Opened(connection, path, head, known)


class ReadOnly:
    """A ledger that no server has open, for reading; a context manager. Nothing of it is changed."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            LedgerLocked: a process, such as a running server, has it open.
            LedgerNewer: a newer version wrote it.
            LedgerForeign: it is no ledger.
            LedgerNotWritable: it may not be read.
        """
        if not path.is_file():
            raise LedgerForeign(f"There is no ledger at {path}; name one with --ledger.")
        self._connection = duckdb.connect()
        try:
            self._attach(path)
        except BaseException:
            self._connection.close()
            raise

    def _attach(self, path: Path) -> None:
        connection = self._connection
        connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false;")
        connection.execute("SET TimeZone = 'UTC'")
        try:
            connection.execute(f"ATTACH '{_quoted(str(path))}' AS {CATALOG} (READ_ONLY)")
        except duckdb.Error as error:
            raise _refusal(path, str(error)) from error
        connection.execute(f"USE {CATALOG}")
        if not _row(connection, "ledger_tables")[0]:
            raise LedgerForeign(f"{path} is a DuckDB file of something else; name a ledger with --ledger.")
        if _row(connection, "ledger_identity")[1] > SCHEMA_VERSION:
            raise LedgerNewer(f"{path} was written by a newer version; upgrade LoopGrid to open it.")
        _lock_down(connection)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A reader on the public views. Close it, or use it as a context manager."""
        cursor = self._connection.cursor()
        cursor.execute(f"USE {CATALOG}")
        return cursor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _check_not_missing(path: Path) -> None:
    """Make no new ledger where an old one is known to have been."""
    attested = None if path.exists() else heads.read(heads.path_of(path))
    if attested is not None and attested.commit_id:
        raise LedgerShorter(
            f"{path} is missing, but {heads.path_of(path)} attests {attested.records} records in it. Restore "
            "the ledger from a backup, or move the head file away to start a new one."
        )


def _check_place(path: Path) -> None:
    _check_not_missing(path)
    folder = path.parent
    if not folder.is_dir():
        raise LedgerNotWritable(f"The folder {folder} does not exist; create it, or choose another --ledger.")
    if path.is_dir():
        raise LedgerNotWritable(f"{path} is a folder; --ledger wants the path of a file.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise LedgerNotWritable(
            f"{path} cannot be written; change its permissions, or choose another --ledger."
        )
    if path.is_file() and not path.stat().st_size:
        # Not made a ledger: it may be what is left of one.
        raise LedgerForeign(
            f"{path} is an empty file, not a ledger; remove it for a new ledger, or restore it from a backup."
        )


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, config: CollectorConfig) -> None:
    try:
        _check_place(path)
    except OSError as error:
        raise LedgerNotWritable(
            f"{path} cannot be written ({error.strerror}); choose another --ledger."
        ) from error
    # Extensions would be downloaded; none is needed, and none may be fetched at run time.
    connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false;")
    connection.execute("SET TimeZone = 'UTC'")
    _set(connection, "threads", f"{config.duckdb_threads:d}", "LOOPGRID_DUCKDB_THREADS")
    _set(connection, "memory_limit", f"'{_quoted(config.duckdb_memory)}'", "LOOPGRID_DUCKDB_MEMORY")
    connection.execute("SET preserve_insertion_order = true")
    connection.execute(f"SET checkpoint_threshold = '{_NO_AUTOMATIC_CHECKPOINT}'")
    try:
        connection.execute(
            f"ATTACH '{_quoted(str(path))}' AS {CATALOG} "
            f"(ROW_GROUP_SIZE {config.row_group_rows:d}, STORAGE_VERSION '{STORAGE_VERSION}')"
        )
    except (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException) as error:
        raise _refusal(path, str(error)) from error
    except (duckdb.InvalidInputException, duckdb.NotSupportedError) as error:
        raise _unusable("LOOPGRID_ROW_GROUP_ROWS", str(config.row_group_rows), error) from error
    connection.execute(f"USE {CATALOG}")


def _set(connection: duckdb.DuckDBPyConnection, option: str, value: str, variable: str) -> None:
    try:
        connection.execute(f"SET {option} = {value}")
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        raise _unusable(variable, value, error) from error


def _unusable(variable: str, value: str, error: duckdb.Error) -> Misconfigured:
    said = str(error).splitlines()[0].rstrip(".!")
    return Misconfigured(f"{variable} is {value}, which DuckDB refuses ({said}); write another value.")


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _refusal(path: Path, reason: str) -> Fatal:
    """DuckDB tells these apart by their text alone; the texts are those of the pinned version."""
    if "Could not set lock" in reason:
        return LedgerLocked(
            f"{path} is open in another process; stop that process, or choose another --ledger."
        )
    if "version number" in reason or "newer version" in reason:
        return LedgerNewer(f"{path} was written by a newer version; upgrade LoopGrid to open it.")
    if "No space left" in reason:
        return LedgerNotWritable(
            f"{path} cannot be opened, because its disk is full; free some space, and keep the file and its "
            ".wal together."
        )
    if "Permission denied" in reason or "Read-only" in reason:
        return LedgerNotWritable(
            f"{path} cannot be written; change its permissions, or choose another --ledger."
        )
    if "Cannot open file" in reason or "Could not write file" in reason:
        said = reason.splitlines()[0].rpartition(": ")[2]
        return LedgerNotWritable(f"{path} cannot be written ({said}); choose another --ledger.")
    return LedgerForeign(
        f"{path} is not a readable DuckDB file ({reason.splitlines()[0]}); choose another --ledger, "
        "or restore this one from a backup."
    )


def _recognise(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    is_ledger, tables = _row(connection, "ledger_tables")
    if not is_ledger and tables:
        raise LedgerForeign(f"{path} is a DuckDB file of something else; choose another --ledger.")
    if not is_ledger:
        ledger_id = uuid.uuid4().hex
        definitions = VIEWS + macros(VIEWS)
        views = hashlib.sha256(definitions.encode()).hexdigest()
        _define(connection, SCHEMA + definitions, ledger_id, views)
        return ledger_id
    ledger_id, version, shown = _row(connection, "ledger_identity")
    if version > SCHEMA_VERSION:
        raise LedgerNewer(
            f"{path} has ledger schema {version}, this LoopGrid knows {SCHEMA_VERSION}; "
            "upgrade LoopGrid to open it."
        )
    shown_now = VIEWS + OVERLAY if _row(connection, "has_overlay")[0] else VIEWS
    definitions = shown_now + macros(shown_now)
    views = hashlib.sha256(definitions.encode()).hexdigest()
    if shown != views:
        _define(connection, definitions, ledger_id, views)
    return str(ledger_id)


def _define(connection: duckdb.DuckDBPyConnection, definitions: str, ledger_id: str, views: str) -> None:
    """One transaction, and a checkpoint right after it, so that definitions never wait in the log."""
    connection.execute("BEGIN")
    connection.execute(definitions)
    connection.execute(
        QUERIES["add_ledger_identity"],
        {
            "ledger_id": ledger_id,
            "schema_version": SCHEMA_VERSION,
            "views": views,
            "created_at": now(),
            "created_by": f"loopgrid {metadata.version('loopgrid')}",
        },
    )
    connection.execute("COMMIT")
    connection.execute(QUERIES["checkpoint"])


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(QUERIES[query]).fetchone()
    if row is None:
        raise LedgerForeign("The ledger's own description is missing; restore the file from a backup.")
    return row


def _last_commit(connection: duckdb.DuckDBPyConnection, ledger_id: str) -> Head:
    row = connection.execute(QUERIES["last_commit"]).fetchone()
    commit_id, records, chain = row if row is not None else (0, 0, _FIRST_CHAIN)
    return Head(ledger_id=ledger_id, commit_id=commit_id, records=records, chain=chain.hex())


def _compare_with_head_file(connection: duckdb.DuckDBPyConnection, path: Path, found: Head) -> None:
    """Refuse a ledger that lost commits, or another ledger under the same name."""
    file = heads.path_of(path)
    attested = heads.read(file)
    if attested is None:
        if found.commit_id:
            _log.warning(
                "%s was missing, so nothing said how much %s must hold; it is made anew at commit %d.",
                file, path, found.commit_id,
            )  # fmt: skip
        _attest(file, found)
        return
    if attested.ledger_id != found.ledger_id:
        raise LedgerForeign(
            f"{file} belongs to another ledger than {path}; put the right pair back together, "
            "or move the head file away if the ledger was replaced on purpose."
        )
    if attested.commit_id > found.commit_id:
        raise LedgerShorter(
            f"{path} ends at commit {found.commit_id} ({found.records} records), but commit "
            f"{attested.commit_id} ({attested.records} records) was acknowledged: "
            f"{attested.records - found.records} records are missing. Restore the newer file from a backup."
        )
    if attested.commit_id:
        row = connection.execute(QUERIES["commit_at"], {"commit_id": attested.commit_id}).fetchone()
        if row is None or row[0].hex() != attested.chain:
            raise LedgerForeign(
                f"Commit {attested.commit_id} of {path} is not the one that {file} attests; "
                "the ledger was changed from outside. Restore it from a backup."
            )
    if attested != found:
        _attest(file, found)


def _attest(file: Path, found: Head) -> None:
    try:
        heads.write(file, found)
    except OSError as error:
        raise LedgerNotWritable(
            f"{file} cannot be written ({error.strerror}); free some space or change its permissions."
        ) from error


def _known_keys(connection: duckdb.DuckDBPyConnection) -> KnownKeys:
    known = KnownKeys()
    # DuckDB hands UUIDs to Arrow as text unless told to keep their type. Told for this one read: what
    # clients of the SQL door get must not change with it.
    connection.execute("SET arrow_lossless_conversion = true")
    for batch in connection.execute(QUERIES["span_keys"]).to_arrow_reader(RUN_KEYS):
        trace_ids, span_ids = batch.columns
        storage = trace_ids.storage
        start, width = storage.offset * TRACE_ID_BYTES, len(storage) * TRACE_ID_BYTES
        raw = storage.buffers()[1][start : start + width].to_pybytes()
        known.add(fingerprints(raw, span_ids.to_numpy()))
    connection.execute("SET arrow_lossless_conversion = false")
    return known


def _lock_down(connection: duckdb.DuckDBPyConnection) -> None:
    """From here on no SQL, ours or a user's, reaches files, the network, extensions or settings."""
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
