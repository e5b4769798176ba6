"""Opening a ledger: attach, create or recognise, compare with the head, lock down.

Every way in which this can fail is a ``Fatal`` whose message says what to do. Nothing already stored
is touched by a refusal.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import duckdb

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import (
    Fatal,
    LedgerForeign,
    LedgerLocked,
    LedgerNewer,
    LedgerNotWritable,
    LedgerShorter,
)
from loopgrid_collector.ledger import head as heads
from loopgrid_collector.ledger.digest import DIGEST_BYTES
from loopgrid_collector.ledger.head import Head
from loopgrid_collector.ledger.known import RUN_KEYS, KnownKeys, fingerprints
from loopgrid_collector.ledger.statements import QUERIES, SCHEMA, VIEWS

SCHEMA_VERSION: Final = 1
CATALOG: Final = "ledger"
_FIRST_CHAIN: Final = bytes(DIGEST_BYTES)
# Checkpoints are ours to schedule: DuckDB's own, at 16 MiB, costs throughput and comes at any moment.
_NO_AUTOMATIC_CHECKPOINT: Final = "1TB"


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


def now() -> datetime:
    """The wall clock, UTC, without time zone, as the ledger stores times."""
    return datetime.now(UTC).replace(tzinfo=None)


def open_ledger(config: CollectorConfig) -> Opened:
    """Open the ledger that the settings name, creating it where there is none.

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
        _lock_down(connection)
        known = _known_keys(connection)
    except BaseException:
        connection.close()
        raise
    return Opened(connection, path, head, known)


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, config: CollectorConfig) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise LedgerNotWritable(f"The folder {folder} does not exist; create it, or choose another --ledger.")
    if path.is_dir():
        raise LedgerNotWritable(f"{path} is a folder; --ledger wants the path of a file.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise LedgerNotWritable(
            f"{path} cannot be written; change its permissions, or choose another --ledger."
        )
    # Extensions would be downloaded; none is needed, and none may be fetched at run time.
    connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false;")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET threads = {config.duckdb_threads:d}")
    connection.execute(f"SET memory_limit = '{_quoted(config.duckdb_memory)}'")
    connection.execute("SET preserve_insertion_order = true")
    connection.execute(f"SET checkpoint_threshold = '{_NO_AUTOMATIC_CHECKPOINT}'")
    try:
        connection.execute(
            f"ATTACH '{_quoted(str(path))}' AS {CATALOG} (ROW_GROUP_SIZE {config.row_group_rows:d})"
        )
    except (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException) as error:
        raise _refusal(path, str(error)) from error
    connection.execute(f"USE {CATALOG}")


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
    if "Permission denied" in reason or "Read-only" in reason:
        return LedgerNotWritable(
            f"{path} cannot be written; change its permissions, or choose another --ledger."
        )
    return LedgerForeign(
        f"{path} is not a readable DuckDB file ({reason.splitlines()[0]}); choose another --ledger, "
        "or restore this one from a backup."
    )


def _recognise(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    is_ledger, tables = _row(connection, "ledger_tables")
    if not is_ledger and tables:
        raise LedgerForeign(f"{path} is a DuckDB file of something else; choose another --ledger.")
    views = hashlib.sha256(VIEWS.encode()).hexdigest()
    if not is_ledger:
        ledger_id = uuid.uuid4().hex
        _define(connection, SCHEMA + VIEWS, ledger_id, views)
        return ledger_id
    ledger_id, version, shown = _row(connection, "ledger_identity")
    if version > SCHEMA_VERSION:
        raise LedgerNewer(
            f"{path} has ledger schema {version}, this LoopGrid knows {SCHEMA_VERSION}; "
            "upgrade LoopGrid to open it."
        )
    if shown != views:
        _define(connection, VIEWS, ledger_id, views)
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
    for batch in connection.execute(QUERIES["span_keys"]).to_arrow_reader(RUN_KEYS):
        # DuckDB hands UUIDs to Arrow as text.
        text = "".join(batch.column(0).to_pylist())
        known.add(fingerprints(bytes.fromhex(text.replace("-", "")), batch.column(1).to_numpy()))
    return known


def _lock_down(connection: duckdb.DuckDBPyConnection) -> None:
    """From here on no SQL, ours or a user's, reaches files, the network, extensions or settings."""
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
