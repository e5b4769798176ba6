"""``loopgrid renormalize``: what this release makes of what was received."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loopgrid_query.cli.console import Column, print_json, print_table, stderr, stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.settings import read_settings

if TYPE_CHECKING:
    from loopgrid_collector.ledger.ledger import Ledger
    from loopgrid_collector.ledger.renormalise import Report


def renormalize(
    ledger: Annotated[
        str | None,
        typer.Option(help="DuckDB file of the ledger.  [env: LOOPGRID_LEDGER; default: loopgrid.duckdb]"),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was recorded then or later, as 2026-11-22T08:00:00Z.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would change; append nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Map what was received anew, with this release, in a ledger that no server has open.

    What differs is appended, nothing is changed; the decisions show it from the next start on.
    """
    # Imported late: DuckDB takes a while that no other command shall wait.
    from loopgrid_collector.ledger.ledger import Ledger

    moment = _moment(since)
    config = read_settings(ledger=ledger)
    path = Path(config.ledger).expanduser().absolute()
    if not path.is_file():
        raise CliError(f"there is no ledger at {path}; name one with --ledger.")
    opened = Ledger.open(config.ledger, config)
    try:
        report = _run(opened, moment, dry_run=dry_run)
    finally:
        opened.close()
    if as_json:
        print_json(_report_json(path, report, dry_run=dry_run))
    else:
        _print_report(report, dry_run=dry_run)


def _moment(since: str | None) -> datetime | None:
    if since is None:
        return None
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise CliError(f"--since {since!r} is no time; write it as 2026-11-22T08:00:00Z.") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _run(ledger: Ledger, since: datetime | None, *, dry_run: bool) -> Report:
    from loopgrid_collector.ledger.renormalise import renormalise

    console = stderr()
    with Progress(
        TextColumn("renormalizing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("renormalizing", total=None)
        return renormalise(
            ledger,
            since=since,
            dry_run=dry_run,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _report_json(path: Path, report: Report, *, dry_run: bool) -> dict[str, object]:
    return {
        "ledger": str(path),
        "mapping_version": report.mapping_version,
        "dry_run": dry_run,
        "spans": report.spans,
        "changed": report.changed,
        "unmapped": report.unmapped,
        "commits": report.commits,
        "columns": {
            name: {"changed": changed, "examples": report.examples[name]}
            for name, changed in report.columns.most_common()
        },
    }


def _print_report(report: Report, *, dry_run: bool) -> None:
    out = stdout()
    verb = "would change" if dry_run else "changed"
    out.print(
        f"{report.changed} of {report.spans} spans {verb} with mapping {report.mapping_version}"
        f"{f'; {report.unmapped} cannot be mapped' if report.unmapped else ''}."
    )
    if report.columns:
        rows = [
            (name, str(changed), " ".join(report.examples[name]))
            for name, changed in report.columns.most_common()
        ]
        columns = [Column("column", whole=True), Column("spans", right=True), Column("examples")]
        print_table(out, columns, rows)
