"""``loopgrid replay``: run a past decision again with something changed."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from loopgrid.tracing import unrecorded
from loopgrid_query.cli import profiles
from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import print_json, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.gist import plain
from loopgrid_query.cli.overrides import parse_overrides

_STYLES = {"completed": "green", "pending": "yellow"}


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
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Replay a decision with overrides.

    With --app, the decorated function runs again in this process and its result is recorded. Calls
    that the module makes while it is imported are not: keep them under if __name__ == "__main__".
    Without, the replay is recorded as asked for, and the server says what it takes to run it.
    Exits 1 where the replay failed or was refused.
    """
    overrides = parse_overrides(override or [])
    if app is None:
        made = client(endpoint).create_replay(decision_id=decision_id, overrides=overrides)
    else:
        # The function's own decisions must go to the same server as the replay, with the same key.
        server = profiles.server(endpoint, os.environ)
        os.environ["LOOPGRID_ENDPOINT"] = server.endpoint
        os.environ["LOOPGRID_API_KEY"] = server.api_key or ""
        # Standard output is this command's; what the user's code prints goes beside it.
        with contextlib.redirect_stdout(sys.stderr):
            load(app)
            made = client(endpoint).replay(decision_id, overrides=overrides)
    if as_json:
        print_json(made)
    else:
        _print_replay(made)
    if made["status"] not in _STYLES:
        raise typer.Exit(NEGATIVE)


def load(module: str) -> None:
    """Imports the module that holds a decorated function, from the working directory too.

    Decorated functions that the module calls on import run and are not recorded.

    Raises:
        CliError: there is no such module, or it fails on import.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with unrecorded():
            found = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name and f"{module}.".startswith(f"{missing.name}."):
            raise CliError(
                f"no module {module!r} here; run this where it can be imported, or set PYTHONPATH."
            ) from missing
        raise CliError(f"{module!r} fails on import: {missing}.") from missing
    except (Exception, SystemExit) as error:
        # The user's module may raise anything; whatever it is, it becomes a sentence.
        raise CliError(f"{module!r} fails on import: {type(error).__name__}: {error}.") from error
    if hasattr(found, "__path__") and getattr(found, "__file__", None) is None:
        # Python takes any folder for a package; this one holds no code of that name.
        raise CliError(f"{module!r} is a folder here and no module; run it where the module is.")


def _print_replay(made: Mapping[str, Any]) -> None:
    out = stdout()
    status = made["status"]
    said = Text(f"{made['replay_id']} ").append(status, _STYLES.get(status, "red"))
    if made.get("reason"):
        said.append(f": {plain(str(made['reason']), one_line=True)}")
    out.print(said, soft_wrap=True)
    if made.get("result_decision_id"):
        out.print(f"result: {made['result_decision_id']}", soft_wrap=True)
        out.print(f"next: loopgrid compare {made['decision_id']} {made['replay_id']}", soft_wrap=True)
