"""``loopgrid experiment schedule``: a cohort repeated unchanged every so often, by the server."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

import typer

from loopgrid.experiment_results import ScheduleRecord
from loopgrid_query.cli import choosing
from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import Column, print_json, print_sheet, print_table, stdout

_COLUMNS: Final = (
    Column("name", least=12),
    Column("status", least=7),
    Column("every", least=6, right=True),
    Column("runs", least=4, right=True),
    Column("last run", least=20),
    Column("schedule_id", least=36, whole=True),
)


def schedule(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    cohort: Annotated[
        str, typer.Option(metavar="NAME", help="Name, name@version or id; it stays at that version.")
    ],
    every: Annotated[
        str, typer.Option(metavar="TIME", help="From one run to the next: 15m, 6h, 1d, 2w; 1m or more.")
    ] = "1d",
    executor: Annotated[
        str | None, typer.Option(help="function or model; chosen for each decision if left out.")
    ] = None,
    concurrency: choosing.Concurrency = 8,
    budget_calls: choosing.BudgetCalls = None,
    budget_tokens: choosing.BudgetTokens = None,
    budget_usd: choosing.BudgetUsd = None,
    equality: Annotated[
        str | None, typer.Option(metavar="RULE", help="When outputs count as equal, as in loopgrid compare.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who begins it.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Have the server repeat a cohort unchanged every so often, from now on. A budget holds for each run.

    Each run is an experiment on record; `loopgrid experiment drift --schedule` says whether the model moved.
    """
    made = client(endpoint).create_schedule(
        name,
        cohort=cohort,
        every_s=choosing.seconds(every, "--every"),
        executor=executor,
        concurrency=concurrency,
        budget=choosing.budget(budget_calls, budget_tokens, budget_usd),
        equality=equality,
        created_by=by,
    )
    _told(made, as_json=as_json)


def schedules(endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List schedules, newest first."""
    page = client(endpoint).list_schedules()
    if as_json:
        print_json(page)
        return
    rows = [
        (
            each.name,
            each.status,
            str(timedelta(seconds=each.every_s)),
            str(each.runs),
            each.last_run_at or "",
            each.schedule_id,
        )
        for each in page.schedules
    ]
    print_table(stdout(), _COLUMNS, rows)


def unschedule(
    schedule_id: Annotated[str, typer.Argument(help="Id of the schedule.")],
    reason: Annotated[str | None, typer.Option(help="Why; it is recorded.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who ends it.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """End a schedule. A run that is under way goes on."""
    ended = client(endpoint).stop_schedule(schedule_id, reason=reason, requested_by=by)
    _told(ended, as_json=as_json)


def _told(found: ScheduleRecord, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    lines = [
        ("schedule", found.schedule_id),
        ("name", found.name),
        ("status", found.status),
        ("cohort", found.cohort_id),
        ("every", str(timedelta(seconds=found.every_s))),
        ("runs", str(found.runs)),
        ("last run", found.last_experiment_id or ""),
        ("trouble", found.trouble or ""),
    ]
    print_sheet(stdout(), [(label, value) for label, value in lines if value])
