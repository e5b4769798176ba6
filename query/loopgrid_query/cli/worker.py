"""``loopgrid worker``: runs replays in the user's code, as they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from loopgrid.worker import Worker, WorkerSettings
from loopgrid_query.cli import profiles
from loopgrid_query.cli.connection import Endpoint
from loopgrid_query.cli.console import print_json_line, stdout
from loopgrid_query.cli.gist import plain


def worker(
    module: Annotated[str, typer.Argument(metavar="PACKAGE.MODULE", help="Module with decorated functions.")],
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Replays at once, each in a process of its own.")
    ] = 1,
    time_limit: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Seconds a run may take before it is ended.")
    ] = 300.0,
    grace: Annotated[
        float, typer.Option(min=0.0, metavar="S", help="Seconds that what runs gets at a stop.")
    ] = 10.0,
    endpoint: Endpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what happens as lines of JSON.")] = False,
) -> None:
    """Run replays as they are asked for, until SIGTERM or Ctrl-C.

    The module is imported in child processes, and its decorated functions run again there: one that hangs
    is ended at the time limit, one that exits its process costs that process, and the worker goes on. What a
    run prints goes to standard error. Several workers share the work; a replay whose worker dies is run by
    another. The API key needs the scopes replay, ingest and read.
    """
    server = profiles.server(endpoint, os.environ)
    settings = WorkerSettings(
        module=module,
        endpoint=server.endpoint,
        api_key=server.api_key or "",
        variables=os.environ,
        concurrency=concurrency,
        time_limit_s=time_limit,
        grace_s=grace,
    )
    Worker(settings, print_json_line if as_json else _print).run()


def _print(event: Mapping[str, Any]) -> None:
    facts = {name: value for name, value in event.items() if name != "event" and value is not None}
    if event["event"] == "ready":
        facts["functions"] = ", ".join(event["functions"])
    if event["event"] == "ended":
        facts = {"status": facts.pop("status"), **facts}
    told = "  ".join(f"{name}={value}" for name, value in facts.items())
    stdout().print(plain(f"{event['event']}  {told}".rstrip(), one_line=True), soft_wrap=True, markup=False)
