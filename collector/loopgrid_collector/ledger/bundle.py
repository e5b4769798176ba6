"""A ledger as a folder of Parquet files with a manifest, and back.

Laws:

* A bundle holds every stored table whole, so that what the DuckDB file proves, the bundle proves, too: the
  same walk over digests, roots and chain runs over its files (``bundle_check``).
* The manifest is written last and names every other file with its size and its SHA-256.
* Loaded back, it is a ledger of the same id with the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import duckdb

from loopgrid_collector.errors import LedgerForeign, LedgerNewer, LedgerNotWritable
from loopgrid_collector.ledger import head as heads
from loopgrid_collector.ledger.as_of_macros import macros
from loopgrid_collector.ledger.head import Head
from loopgrid_collector.ledger.opening import SCHEMA_VERSION, STORAGE_VERSION
from loopgrid_collector.ledger.statements import OVERLAY, SCHEMA, VIEWS, parse, text_of

MANIFEST: Final = "manifest.json"
VIEWS_FILE: Final = "views.sql"
FORMAT: Final = "loopgrid-parquet"
FORMAT_VERSION: Final = 1
TABLES: Final = ("ledger", "commits", "spans", "logs", "entries", "refused", "renormalised")
"""Every table of schema ``store``; each is one file."""

SQL: Final = parse(text_of("bundle.sql"))
_MEMORY: Final = "512MB"
_PIECE_BYTES: Final = 2**20
_FIRST_CHAIN: Final = bytes(32)

Progress = Callable[[int, int], None]
"""Told after each table: tables done, and tables there are."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a bundle.

    Attributes:
        name: within the folder.
        rows: rows in it; None for a file that is no table.
        bytes: its size.
        sha256: of its bytes, hex.
    """

    name: str
    rows: int | None
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds.

    Attributes:
        format: always ``loopgrid-parquet``.
        format_version: of the bundle.
        schema_version: of the tables.
        ledger_id: which ledger it is a copy of.
        commit_id: its newest commit; 0 for a ledger without commits.
        records: how many records it holds.
        root: Merkle root of that commit, hex; None without commits.
        chain: its chain value, hex.
        recorded_at: when that commit was made, UTC, ISO 8601; None without commits.
        created_by: the release that wrote the bundle.
        files: all others.
    """

    format: str
    format_version: int
    schema_version: int
    ledger_id: str
    commit_id: int
    records: int
    root: str | None
    chain: str
    recorded_at: str | None
    created_by: str
    files: tuple[File, ...]


def file_of(table: str) -> str:
    """Name of the file that holds a table."""
    return f"{table}.parquet"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write(ledger: Path, head: Head, folder: Path, progress: Progress | None = None) -> Manifest:
    """Write a ledger that nobody changes meanwhile into an empty folder.

    Args:
        ledger: its file; a log beside it is read with it.
        head: its newest commit.
        folder: where the files go.
        progress: told how far it is.

    Raises:
        LedgerForeign: it cannot be read.
        LedgerNotWritable: the folder cannot take it.
    """
    try:
        with _connection(folder.parent) as connection:
            connection.execute(SQL["open_copy"].format(path=quoted(ledger)))
            files = []
            for done, table in enumerate(TABLES, 1):
                files.append(_written(connection, table, folder / file_of(table)))
                if progress is not None:
                    progress(done, len(TABLES))
            (folder / VIEWS_FILE).write_text(_views(connection), encoding="utf-8")
            files.append(_described(folder / VIEWS_FILE, None))
            (version,) = _one(connection, "created_by")
            newest = connection.execute(SQL["newest_commit"]).fetchone()
    except (duckdb.IOException, OSError) as error:
        raise LedgerNotWritable(
            f"{folder} cannot take the bundle ({str(error).splitlines()[0]}); free some space and try again."
        ) from error
    except duckdb.Error as error:
        raise LedgerForeign(f"{ledger} cannot be read: {str(error).splitlines()[0]}") from error
    manifest = _manifest(head, int(version), newest, tuple(files))
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    return manifest


def _manifest(head: Head, version: int, newest: tuple[Any, ...] | None, files: tuple[File, ...]) -> Manifest:
    commit_id, records, root, chain, recorded_at = newest or (0, 0, None, _FIRST_CHAIN, None)
    if (commit_id, records, chain.hex()) != (head.commit_id, head.records, head.chain):
        raise LedgerForeign(
            f"The ledger ends at commit {commit_id}, its head at {head.commit_id}; verify it."
        )
    return Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        schema_version=version,
        ledger_id=head.ledger_id,
        commit_id=commit_id,
        records=records,
        root=root.hex() if root is not None else None,
        chain=chain.hex(),
        recorded_at=f"{recorded_at.isoformat(timespec='microseconds')}Z" if recorded_at else None,
        created_by=f"loopgrid {metadata.version('loopgrid')}",
        files=files,
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle, its shape checked.

    Raises:
        LedgerForeign: there is none, or it is damaged.
        LedgerNewer: a newer version wrote it.
    """
    path = folder / MANIFEST
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LedgerForeign(
            f"{folder} holds no {MANIFEST}, so it is no Parquet bundle, or lost it."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise LedgerForeign(f"{path} is damaged and cannot be read; restore it from a backup.") from error
    try:
        if max(said["format_version"] - FORMAT_VERSION, said["schema_version"] - SCHEMA_VERSION) > 0:
            raise LedgerNewer(f"{folder} was written by a newer version; upgrade LoopGrid to read it.")
        files = tuple(File(**_checked(file)) for file in said.pop("files"))
        manifest = Manifest(**_checked(said), files=files)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LedgerForeign(
            f"{path} is damaged: it does not say what a manifest says. Restore it from a backup."
        ) from error
    if manifest.format != FORMAT:
        raise LedgerForeign(f"{path} describes a {manifest.format!r}, not a {FORMAT!r}; name another folder.")
    return manifest


def restore(folder: Path, target: Path) -> None:
    """Load a bundle into a new DuckDB ledger, and write its head. It is to be verified afterwards.

    Args:
        folder: a bundle whose files are those of its manifest.
        target: the file, not there yet.

    Raises:
        LedgerForeign: the bundle cannot be read.
        LedgerNotWritable: the file cannot be written.
    """
    manifest = read_manifest(folder)
    try:
        with _connection(target.parent) as connection:
            connection.execute(
                SQL["create_ledger"].format(path=quoted(target), storage_version=STORAGE_VERSION)
            )
            connection.execute("USE ledger")
            connection.execute(SCHEMA)
            for table in TABLES:
                path = quoted(folder / file_of(table))
                connection.execute(SQL["load_table"].format(table=table, path=path))
            connection.execute(_definitions(connection))
            connection.execute(SQL["finish_ledger"])
        heads.write(
            heads.path_of(target),
            Head(manifest.ledger_id, manifest.commit_id, manifest.records, manifest.chain),
        )
    except (duckdb.IOException, OSError) as error:
        raise LedgerNotWritable(
            f"{target} cannot be written ({str(error).splitlines()[0]}); free some space and try again."
        ) from error
    except duckdb.Error as error:
        raise LedgerForeign(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from error


@contextmanager
def _connection(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "temp_directory": str(scratch / ".duckdb"),
        "autoinstall_known_extensions": False,
        "preserve_insertion_order": True,
    }
    with duckdb.connect(config=settings) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def _written(connection: duckdb.DuckDBPyConnection, table: str, path: Path) -> File:
    row = connection.execute(SQL["write_table"].format(table=table, path=quoted(path))).fetchone()
    return _described(path, int(row[0]) if row else 0)


def _described(path: Path, rows: int | None) -> File:
    return File(name=path.name, rows=rows, bytes=path.stat().st_size, sha256=sha256_of(path))


def _views(connection: duckdb.DuckDBPyConnection) -> str:
    files = [SQL["view_of_file"].format(table=table, path=file_of(table)) for table in TABLES]
    return "\n".join([SQL["views_head"], *files, _definitions(connection)])


def _definitions(connection: duckdb.DuckDBPyConnection) -> str:
    shown = VIEWS + OVERLAY if _one(connection, "has_renormalised")[0] else VIEWS
    return shown + macros(shown)


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(SQL[query]).fetchone()
    if row is None:
        raise LedgerForeign("The ledger's own description is missing; restore the file from a backup.")
    return row


def quoted(path: Path) -> str:
    """A path as it stands between quotes in a statement."""
    return str(path).replace("'", "''")


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    """What was read from JSON, if every value has the type that it shall have. Raises: TypeError: not so."""
    for name, value in said.items():
        if type(value) not in _KINDS[name]:
            raise TypeError(name)
    return said


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("format", "ledger_id", "chain", "created_by", "name", "sha256"), (str,)),
    **dict.fromkeys(("format_version", "schema_version", "commit_id", "records", "bytes"), (int,)),
    **dict.fromkeys(("root", "recorded_at"), (str, type(None))),
    "rows": (int, type(None)),
}
