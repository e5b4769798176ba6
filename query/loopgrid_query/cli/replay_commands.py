"""``loopgrid replays``: what became of replays, and what people do about them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from loopgrid_query.cli.connection import AsJson, Endpoint, client, example
from loopgrid_query.cli.console import Column, print_json, print_table, stdout
from loopgrid_query.cli.replays import print_replay

app = typer.Typer(help="See what became of replays.", no_args_is_help=True, rich_markup_mode=None)

ReplayId = Annotated[str, typer.Argument(help="Id of the replay.")]
_EXAMPLE_ID: Final = "rpl_8c2d3f405b6e47a19d0e1f2a3b4c5d6e"
_COLUMNS: Final = (
    Column("requested", least=20),
    Column("status", least=9),
    Column("attempts", least=8, right=True),
    Column("function", least=12),
    Column("reason", least=20),
    Column("replay_id", least=36, whole=True),
)


@app.command("list", epilog=example("loopgrid replays list --status failed"))
def list_replays(
    status: Annotated[
        str | None, typer.Option(help="pending, running, completed, failed, refused or cancelled.")
    ] = None,
    decision: Annotated[str | None, typer.Option(metavar="ID", help="Only replays of this decision.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Replays at most.")] = 20,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """List replays, newest first."""
    page = client(endpoint).list_replays(status=status, decision_id=decision, limit=limit)
    if as_json:
        print_json(page)
        return
    print_table(stdout(), _COLUMNS, [_row(replay) for replay in page.replays])


@app.command(epilog=example(f"loopgrid replays cancel {_EXAMPLE_ID}", "--reason 'asked twice'"))
def cancel(
    replay_id: ReplayId,
    reason: Annotated[str | None, typer.Option(help="Why; it is recorded.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who cancels it.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Keep a replay from running, or stop whoever runs it."""
    _show(client(endpoint).cancel_replay(replay_id, reason=reason, requested_by=by), as_json=as_json)


@app.command(epilog=example(f"loopgrid replays retry {_EXAMPLE_ID}"))
def retry(
    replay_id: ReplayId,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who asks.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Let a replay that failed, was refused or cancelled run once more."""
    _show(client(endpoint).retry_replay(replay_id, requested_by=by), as_json=as_json)


def _row(replay: dict[str, Any]) -> list[str]:
    named = ("requested_at", "status", "attempts", "function", "reason", "replay_id")
    return ["" if replay[name] is None else str(replay[name]) for name in named]


def _show(replay: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(replay)
    else:
        print_replay(replay)
