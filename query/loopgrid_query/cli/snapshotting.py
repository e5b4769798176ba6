"""``loopgrid snapshot``: a copy of the ledger that stands on its own."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer
import urllib3
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from loopgrid_query.cli.connection import AsJson, Connection, Endpoint
from loopgrid_query.cli.console import print_json, stderr, stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.verifying import with_progress

if TYPE_CHECKING:
    from loopgrid_collector.ledger.verify import Report

_ENDINGS = (".wal", "", ".head")
"""In the order in which they are put in place: a head without its ledger would be taken for a loss."""

_BROKEN_OFF = "the snapshot broke off before its end; take it again."


class Format(StrEnum):
    """What a copy is made of."""

    DUCKDB = "duckdb"
    PARQUET = "parquet"


def snapshot(
    target: Annotated[
        Path,
        typer.Argument(help="Where the copy goes: a file, or with parquet a folder, that is not there yet."),
    ],
    form: Annotated[
        Format,
        typer.Option("--format", help="duckdb: a ledger. parquet: a folder of files that any tool reads."),
    ] = Format.DUCKDB,
    endpoint: Endpoint = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="Copy this file, which no server has open, or load this Parquet bundle, instead."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the ledger of a running server, or a file, as it is at one commit, while others record.

    The copy is checked as `loopgrid verify` does before it is put in place. Beside a DuckDB file stand its
    log (.wal) and its head (.head); a Parquet folder has one file a table and a manifest. A server wants an
    API key with the scope admin.
    """
    if endpoint and ledger:
        raise CliError("--endpoint and --ledger exclude each other; give one of them.")
    target = target.expanduser().absolute()
    endings = ("",) if form is Format.PARQUET else _ENDINGS
    _check_free(target, endings)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        name = Path(folder) / "copy.duckdb"
        if ledger and ledger.expanduser().is_dir():
            _load(ledger.expanduser().absolute(), name)
        else:
            with _copy_of(ledger) if ledger else _download(endpoint) as source:
                _unpack(source, name)
        if form is Format.PARQUET:
            name, report = _bundle_of(name)
        else:
            report = _verified(name)
        _check_free(target, endings)
        for ending in endings:
            part = name.with_name(name.name + ending)
            if part.exists():
                part.rename(target.with_name(target.name + ending))
    said = {"path": str(target), "commit_id": report.commits, "records": report.records}
    if as_json:
        print_json(said)
    else:
        stdout().print(
            f"{target}: {report.records} records in {report.commits} commits, verified", soft_wrap=True
        )


def _check_free(target: Path, endings: tuple[str, ...]) -> None:
    for ending in endings:
        path = target.with_name(target.name + ending)
        if path.exists():
            raise CliError(f"{path} is there already; name one that is not.")
    if not target.parent.is_dir():
        raise CliError(f"The folder {target.parent} does not exist; create it, or name another file.")


@contextmanager
def _download(endpoint: str | None) -> Iterator[IO[bytes]]:
    with Connection(endpoint) as connection:
        answer = connection.stream("/v1/snapshot", accept="application/x-tar")
        try:
            if answer.status != HTTPStatus.OK:
                raise CliError(_refusal(answer))
            total = int(answer.headers.get("content-length", 0))
            with _progress() as progress:
                yield cast("IO[bytes]", progress.wrap_file(cast("Any", answer), total, description="copying"))
        except urllib3.exceptions.HTTPError as error:
            raise CliError(_BROKEN_OFF) from error
        finally:
            answer.release_conn()


def _refusal(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(json.loads(answer.read())["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered HTTP {answer.status}: is that the API port, by default 8000?"


@contextmanager
def _copy_of(ledger: Path) -> Iterator[IO[bytes]]:
    # Imported late: DuckDB takes a while that no other command shall wait.
    from loopgrid_collector.ledger import head as heads
    from loopgrid_collector.ledger.opening import ReadOnly
    from loopgrid_collector.ledger.snapshot import Extent, wal_of

    path = ledger.expanduser().absolute()
    # Open as long as it is copied, so that no server begins to write to it.
    with ReadOnly(path), tempfile.TemporaryFile(dir=path.parent) as file:
        head = heads.read(heads.path_of(path))
        if head is None:
            raise CliError(
                f"{path} has no head file, so nothing says how much it must hold; verify it first."
            )
        wal = wal_of(path)
        extent = Extent(path, path.stat().st_size, wal.stat().st_size if wal.exists() else 0, head)
        with _progress() as progress:
            task = progress.add_task("copying", total=extent.tar_bytes)
            for piece in extent.stream():
                file.write(piece)
                progress.advance(task, len(piece))
        file.seek(0)
        yield file


def _unpack(source: IO[bytes], name: Path) -> None:
    """The members of a snapshot under names of ours; what else is in it is refused."""
    from loopgrid_collector.ledger.snapshot import NAME

    targets = {NAME + ending: name.with_name(name.name + ending) for ending in _ENDINGS}
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for member in tar:
                target, content = targets.pop(member.name, None), tar.extractfile(member)
                if target is None or content is None:
                    raise CliError(f"a snapshot holds no {member.name!r}; is that a LoopGrid server?")
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file, 2**20)
    except tarfile.TarError as error:
        raise CliError(_BROKEN_OFF) from error
    # The head comes last.
    if targets.keys() - {NAME + ".wal"}:
        raise CliError(_BROKEN_OFF)


def _load(bundle: Path, name: Path) -> None:
    """A DuckDB ledger from a Parquet bundle."""
    from loopgrid_collector.ledger import bundle as bundles
    from loopgrid_collector.ledger import bundle_check

    faults = bundle_check.faults(bundle, bundles.read_manifest(bundle))
    if faults:
        raise CliError(f"{bundle} is not sound, so nothing was made of it. {' '.join(faults)}")
    bundles.restore(bundle, name)


def _bundle_of(name: Path) -> tuple[Path, Report]:
    """The Parquet bundle of a copy, beside it, and what its verification found."""
    from loopgrid_collector.ledger import bundle as bundles
    from loopgrid_collector.ledger import bundle_check
    from loopgrid_collector.ledger import head as heads

    head = heads.read(heads.path_of(name))
    if head is None:
        raise AssertionError("a snapshot is unpacked with its head")
    folder = name.with_name("bundle")
    folder.mkdir()
    with _progress("{task.completed} of {task.total} tables") as progress:
        task = progress.add_task("writing", total=len(bundles.TABLES))
        manifest = bundles.write(name, head, folder, lambda done, _: progress.update(task, completed=done))
    # From the files as they are now, so that what was written is proven and not only what was read.
    with bundle_check.opened(folder, manifest) as verification:
        report = with_progress(partial(bundle_check.evidence, folder, manifest, verification))
    return folder, _sound(report)


def _verified(path: Path) -> Report:
    from loopgrid_collector.ledger.verify import Verification

    with Verification(path) as verification:
        return _sound(with_progress(verification.evidence))


def _sound(report: Report) -> Report:
    if not report.sound:
        raise CliError("the copy does not verify; nothing was put in place. Verify the ledger itself.")
    return report


def _progress(count: str = "") -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(count) if count else DownloadColumn(),
        TimeRemainingColumn(),
        console=stderr(),
        transient=True,
    )
