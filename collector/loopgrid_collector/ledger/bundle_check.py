"""Is a Parquet bundle what it was when it was written?

First the files: each that the manifest names is there with its bytes, and no other is. Then what they say:
the walk of ``verify`` over digests, roots and chain, read from the Parquet files where they are. Whoever
rewrites a file together with the manifest is found by the second.

Hole: ``views.sql`` and what the dialects derived are covered by the manifest alone, as nothing but the file's
own bytes speaks of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import duckdb

from loopgrid_collector.errors import LedgerForeign, LedgerNotWritable
from loopgrid_collector.ledger import bundle as bundles
from loopgrid_collector.ledger import head as heads
from loopgrid_collector.ledger.bundle import SQL, TABLES, VIEWS_FILE, File, Manifest, file_of, quoted
from loopgrid_collector.ledger.head import Head
from loopgrid_collector.ledger.verify import Fault, Progress, Report, Verification

_WANTED: Final = frozenset({*(file_of(table) for table in TABLES), VIEWS_FILE})


def faults(folder: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files of a bundle: one sentence each, by name; empty where all are as written.

    Raises:
        LedgerNotWritable: the folder may not be read.
    """
    named: dict[str, File] = {}
    found: list[str] = []
    for file in manifest.files:
        if file.name not in _WANTED:
            found.append(f"The manifest names {file.name!r}, which no bundle holds.")
        elif file.name in named:
            found.append(f"The manifest names {file.name} twice.")
        named[file.name] = file
    found += [f"The manifest does not name {name}." for name in sorted(_WANTED - named.keys())]
    try:
        there = {path.name for path in folder.iterdir()} - {bundles.MANIFEST}
        for name in sorted(_WANTED & named.keys()):
            found += _faults_of(folder / name, named[name]) if name in there else [f"{name} is missing."]
    except OSError as error:
        raise LedgerNotWritable(
            f"{folder} cannot be read ({error.strerror}); change its permissions."
        ) from error
    found += [f"{name} is no file of this bundle." for name in sorted(there - _WANTED)]
    return found


def _faults_of(path: Path, said: File) -> list[str]:
    if not path.is_file():
        return [f"{path.name} is no file."]
    size = path.stat().st_size
    if size != said.bytes:
        return [f"{path.name} is damaged: it has {size} bytes, and had {said.bytes}."]
    if bundles.sha256_of(path) != said.sha256:
        return [f"{path.name} is damaged: its bytes do not give the SHA-256 that the manifest names."]
    return []


@contextmanager
def opened(folder: Path, manifest: Manifest) -> Iterator[Verification]:
    """A bundle as the verifier of a closed ledger sees it, with the manifest's commit as its head.

    Raises:
        LedgerForeign: a file is no table of a ledger.
    """
    with tempfile.TemporaryDirectory(prefix="loopgrid-bundle-") as scratch:
        path = Path(scratch) / "shown.duckdb"
        try:
            with duckdb.connect(path, config={"autoinstall_known_extensions": False}) as connection:
                connection.execute(SQL["views_head"])
                for table in TABLES:
                    statement = "shown_identity" if table == "ledger" else "view_of_file"
                    file = quoted(folder / file_of(table))
                    connection.execute(SQL[statement].format(table=table, path=file))
        except duckdb.Error as error:
            raise LedgerForeign(
                f"{folder} does not hold the tables of a ledger: {str(error).splitlines()[0]}"
            ) from error
        head = Head(manifest.ledger_id, manifest.commit_id, manifest.records, manifest.chain)
        heads.write(heads.path_of(path), head)
        with Verification(path) as verification:
            yield verification


def evidence(
    folder: Path, manifest: Manifest, verification: Verification, progress: Progress | None = None
) -> Report:
    """Recompute every digest, root and chain value, and compare them with the manifest.

    Args:
        folder: the bundle.
        manifest: its manifest.
        verification: of ``opened``.
        progress: told after each window of records.
    """
    report = verification.evidence(progress)
    # What the walk knows as the head stands in the manifest here.
    report.notes.clear()
    if report.fault is not None:
        what = report.fault.what.replace("head file", "manifest")
        report.fault = replace(report.fault, what=what)
    elif (said := _differing(folder, manifest, report)) is not None:
        report.fault = Fault(said)
    return report


def _differing(folder: Path, manifest: Manifest, report: Report) -> str | None:
    """What the manifest says otherwise than the tables. Rows are counted: some tables are in no root."""
    if manifest.commit_id != report.commits:
        return f"The manifest names commit {manifest.commit_id}, and the tables end at {report.commits}."
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        root = connection.execute(
            SQL["newest_root"].format(path=quoted(folder / file_of("commits")))
        ).fetchone()
        if (root[0].hex() if root else None) != manifest.root:
            return f"The manifest names another root for commit {manifest.commit_id} than commits.parquet."
        for file in manifest.files:
            if file.name == VIEWS_FILE:
                continue
            row = connection.execute(SQL["rows_of"].format(path=quoted(folder / file.name))).fetchone()
            if row is None or row[0] != file.rows:
                return f"{file.name} does not hold the {file.rows} rows that the manifest names."
    return None
