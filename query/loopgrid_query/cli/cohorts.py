"""``loopgrid cohort``: frozen lists of decisions, under a name and a version."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from loopgrid_query.cli import choosing
from loopgrid_query.cli.connection import AsJson, Endpoint, client, example
from loopgrid_query.cli.console import Column, print_json, print_sheet, print_table, stdout
from loopgrid_query.cli.errors import CliError

app = typer.Typer(
    help="Freeze lists of decisions, to replay them.", no_args_is_help=True, rich_markup_mode=None
)

Named = Annotated[str, typer.Argument(help="Name, name@version or id of the cohort.")]
_SHOWN: Final = 20
_COLUMNS: Final = (
    Column("name", least=12),
    Column("version", least=7, right=True),
    Column("decisions", least=9, right=True),
    Column("made", least=20),
    Column("cohort_id", least=36, whole=True),
)


@app.command(
    epilog=example("loopgrid cohort create refunds --filter decision_type=reply", "--corrected-since 7d")
)
def create(
    name: Annotated[str, typer.Argument(help="What people call it; again, it is the next version.")],
    decision: Annotated[
        list[str] | None, typer.Option("--decision", metavar="ID", help="This decision; repeatable.")
    ] = None,
    filters: choosing.Filters = None,
    corrected_since: choosing.CorrectedSince = None,
    uncorrected_sample: choosing.UncorrectedSample = None,
    size: choosing.Size = None,
    random: choosing.Random = False,
    seed: choosing.Seed = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who makes it.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Choose decisions now, and keep that choice. What is replays of decisions is left out."""
    found = choosing.chosen(filters, corrected_since, uncorrected_sample, size, seed, random=random)
    if not found and not decision:
        raise CliError("say which decisions: --decision, --filter or --corrected-since.")
    made = client(endpoint).create_cohort(name, decision_ids=decision or None, created_by=by, **found)
    if as_json:
        print_json(made)
        return
    named = f"{made.name}@{made.version}"
    stdout().print(f"{named} holds {made.decisions} decisions ({made.cohort_id}).", soft_wrap=True)


@app.command("list", epilog=example("loopgrid cohort list"))
def list_cohorts(endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List every version of every cohort, newest first."""
    page = client(endpoint).list_cohorts()
    if as_json:
        print_json(page)
        return
    rows = [
        (each.name, str(each.version), str(each.decisions), each.recorded_at, each.cohort_id)
        for each in page.cohorts
    ]
    print_table(stdout(), _COLUMNS, rows)


@app.command(epilog=example("loopgrid cohort show refunds@2"))
def show(named: Named, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show how a cohort was chosen, and its first decisions."""
    grid = client(endpoint)
    cohort = grid.get_cohort(named)
    if as_json:
        print_json(cohort)
        return
    lines = [
        ("cohort", f"{cohort.name}@{cohort.version}"),
        ("id", cohort.cohort_id),
        ("decisions", str(cohort.decisions)),
        ("chosen", json.dumps(cohort.chosen)),
        ("made", f"{cohort.recorded_at}{f' by {cohort.created_by}' if cohort.created_by else ''}"),
    ]
    print_sheet(stdout(), lines)
    page = grid.cohort_decisions(cohort.cohort_id, limit=_SHOWN)
    for decision_id in page.decision_ids:
        stdout().print(decision_id, soft_wrap=True)
    if page.next_cursor is not None:
        stdout().print(f"… and {cohort.decisions - _SHOWN} more", soft_wrap=True)
