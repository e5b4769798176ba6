"""``loopgrid verify``: does the ledger still hold what it acknowledged?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loopgrid_query.cli.console import print_json, stderr, stdout
from loopgrid_query.cli.errors import NEGATIVE
from loopgrid_query.cli.settings import read_settings

if TYPE_CHECKING:
    from loopgrid_collector.ledger.verify import Gap, Report, Verification


def verify(
    ledger: Annotated[
        str | None,
        typer.Option(help="DuckDB file of the ledger.  [env: LOOPGRID_LEDGER; default: loopgrid.duckdb]"),
    ] = None,
    completeness: Annotated[
        bool, typer.Option("--completeness", help="List what counting producers sent and never arrived, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recompute every digest, root and chain value of a ledger that no server has open.

    Names the first record or commit that does not fit. Exit codes: 0 sound, 1 not sound (or, with
    --completeness, not complete), 2 it cannot be checked.
    """
    # Imported late: DuckDB takes a while that no other command shall wait.
    from loopgrid_collector.ledger.verify import Verification

    path = Path(read_settings(ledger=ledger).ledger).expanduser().absolute()
    with Verification(path) as verification:
        report = _evidence(verification)
        producers, gaps = verification.gaps() if completeness else (0, [])
    if as_json:
        counted = {"producers": producers, "gaps": [asdict(gap) for gap in gaps]} if completeness else {}
        print_json(_report_json(path, report) | counted)
    else:
        _print_report(path, report)
        if completeness:
            _print_gaps(producers, gaps)
    if gaps or not report.sound:
        raise typer.Exit(NEGATIVE)


def _evidence(verification: Verification) -> Report:
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
        return verification.evidence(
            lambda done, total: progress.update(task, completed=done, total=max(done, total))
        )


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


def _print_report(path: Path, report: Report) -> None:
    out = stdout()
    if report.fault is None:
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
