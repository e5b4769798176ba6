"""``loopgrid replay``: run a past decision again with something changed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from loopgrid.loading import load
from loopgrid_query.cli import profiles
from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import print_json, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.gist import plain
from loopgrid_query.cli.overrides import parse_overrides

_STYLES = {"completed": "green", "pending": "yellow", "running": "yellow"}


def replay(
    decision_id: Annotated[str, typer.Argument(help="Id of the decision.")],
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE",
            help="What to change, as in prompt.version=2 or model.name=gpt-4o; repeatable.",
        ),
    ] = None,
    app: Annotated[
        str | None,
        typer.Option(metavar="MODULE", help="Module with the decorated function; runs it here."),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="S", help="Seconds to wait for a worker to run it; not with --app."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="With --app: from the record alone, calling nothing; does it come out as it was?"
        ),
    ] = False,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Replay a decision with overrides.

    With --app, the decorated function runs again in this process and its result is recorded. Calls
    that the module makes while it is imported are not: keep them under if __name__ == "__main__".
    Without, the replay is recorded as asked for, and a worker that has the function runs it (loopgrid
    worker); --wait shows what became of it.
    Its tools answer from the record unless --override steps.… says otherwise.
    Exits 1 where the replay failed or was refused, or did not come out as --verify wants it.
    """
    if verify and app is None:
        raise CliError("--verify runs the function here: name its module with --app.")
    overrides = parse_overrides(override or [])
    made: Mapping[str, Any]
    if app is None:
        grid = client(endpoint)
        made = grid.create_replay(decision_id=decision_id, overrides=overrides)
        if wait is not None:
            made = grid.wait_for_replay(made["replay_id"], timeout_s=wait)
    else:
        # The function's own decisions must go to the same server as the replay, with the same key.
        server = profiles.server(endpoint, os.environ)
        os.environ["LOOPGRID_ENDPOINT"] = server.endpoint
        os.environ["LOOPGRID_API_KEY"] = server.api_key or ""
        # Standard output is this command's; what the user's code prints goes beside it.
        with contextlib.redirect_stdout(sys.stderr):
            load(app)
            made = client(endpoint).replay(decision_id, overrides=overrides, verify=verify)
    unlike: list[str] = getattr(made, "differences", None) or []
    if as_json:
        print_json({**made, "differences": unlike} if verify else made)
    else:
        print_replay(made)
        for difference in unlike:
            stdout().print(Text(f"not as it was: {plain(difference, one_line=True)}", "red"), soft_wrap=True)
        if verify and not unlike:
            stdout().print("as it was, to the byte; nothing was called", soft_wrap=True)
    if made["status"] not in _STYLES or unlike:
        raise typer.Exit(NEGATIVE)


def print_replay(made: Mapping[str, Any]) -> None:
    """Shows a replay in a few lines."""
    out = stdout()
    status = made["status"]
    said = Text(f"{made['replay_id']} ").append(status, _STYLES.get(status, "red"))
    if made.get("reason"):
        said.append(f": {plain(str(made['reason']), one_line=True)}")
    out.print(said, soft_wrap=True)
    if made.get("result_decision_id"):
        out.print(f"result: {made['result_decision_id']}", soft_wrap=True)
        out.print(f"next: loopgrid compare {made['decision_id']} {made['replay_id']}", soft_wrap=True)
