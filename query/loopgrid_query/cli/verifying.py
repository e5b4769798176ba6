"""``loopgrid verify``: does the ledger still hold what it acknowledged?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loopgrid_query.cli.console import print_json, stderr, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.settings import read_settings

if TYPE_CHECKING:
    from loopgrid_collector.ledger.verify import Gap, Report


def verify(
    path: Annotated[
        Path | None,
        typer.Argument(help="DuckDB file of a ledger, or folder of a Parquet bundle.", show_default=False),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(help="The same.  [env: LOOPGRID_LEDGER; default: loopgrid.duckdb]"),
    ] = None,
    completeness: Annotated[
        bool, typer.Option("--completeness", help="List what counting producers sent and never arrived, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recompute every digest, root and chain value of a ledger that no server has open.

    Names the first record or commit that does not fit; of a Parquet bundle also every file that is damaged,
    missing or too many. Exit codes: 0 sound, 1 not sound (or, with --completeness, not complete), 2 it cannot
    be checked.
    """
    if path and ledger:
        raise CliError("PATH and --ledger exclude each other; give one of them.")
    path = (path or Path(read_settings(ledger=ledger).ledger)).expanduser().absolute()
    looked = _look_at_bundle(path, completeness) if path.is_dir() else _look_at_ledger(path, completeness)
    if as_json:
        counted = {"producers": looked.producers, "gaps": [asdict(gap) for gap in looked.gaps]}
        files = {"files": looked.files} if path.is_dir() else {}
        print_json(_report_json(path, looked.report) | files | (counted if completeness else {}))
    else:
        _print_report(path, looked)
        if completeness and not looked.files:
            _print_gaps(looked.producers, looked.gaps)
    if looked.gaps or not looked.report.sound:
        raise typer.Exit(NEGATIVE)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found. files: what is wrong with the files of a bundle, one sentence each."""

    report: Report
    producers: int = 0
    gaps: list[Gap] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


# Imported late, here and below: DuckDB takes a while that no other command shall wait.
def _look_at_ledger(path: Path, completeness: bool) -> _Looked:
    from loopgrid_collector.ledger.verify import Verification

    with Verification(path) as verification:
        report = with_progress(verification.evidence)
        return _Looked(report, *(verification.gaps() if completeness else ()))


def _look_at_bundle(folder: Path, completeness: bool) -> _Looked:
    from loopgrid_collector.ledger import bundle, bundle_check
    from loopgrid_collector.ledger.verify import Fault, Report

    manifest = bundle.read_manifest(folder)
    if files := bundle_check.faults(folder, manifest):
        return _Looked(Report(manifest.ledger_id, fault=Fault(files[0])), files=files)
    with bundle_check.opened(folder, manifest) as verification:
        report = with_progress(partial(bundle_check.evidence, folder, manifest, verification))
        return _Looked(report, *(verification.gaps() if completeness else ()))


def with_progress(evidence: Callable[[Callable[[int, int], None]], Report]) -> Report:
    """What a verification finds, with a bar on a terminal while it looks."""
    console = stderr()
    with Progress(
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("verifying", total=None)
        return evidence(lambda done, total: progress.update(task, completed=done, total=max(done, total)))


def _report_json(path: Path, report: Report) -> dict[str, Any]:
    return {
        "ledger": str(path),
        "ledger_id": report.ledger_id,
        "sound": report.sound,
        "commits": report.commits,
        "records": report.records,
        "chain": report.chain,
        "fault": asdict(report.fault) if report.fault else None,
        "notes": report.notes,
    }


def _print_report(path: Path, looked: _Looked) -> None:
    out, report = stdout(), looked.report
    if looked.files:
        out.print(f"{path} is not sound; its records were not looked at.", soft_wrap=True)
        for file in looked.files:
            out.print(file, soft_wrap=True)
    elif report.fault is None:
        out.print(
            f"{path} is sound: {report.records} records in {report.commits} commits, chain {report.chain}",
            soft_wrap=True,
        )
    else:
        out.print(f"{path} is not sound. {report.fault.what}", soft_wrap=True)
    for note in report.notes:
        out.print(note, soft_wrap=True)


def _print_gaps(producers: int, gaps: list[Gap]) -> None:
    out = stdout()
    if not gaps:
        out.print(f"Nothing is missing from {producers} producers, up to the last that each sent.")
        return
    for gap in gaps:
        missing = gap.last_missing - gap.first_missing + 1
        numbers = f"{gap.first_missing}" + (f"–{gap.last_missing}" if missing > 1 else "")
        service = gap.service_name or "a service without a name"
        out.print(
            f"{service}, producer {gap.producer_id}: {missing} missing, number {numbers}", soft_wrap=True
        )
