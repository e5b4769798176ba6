"""``loopgrid serve``: collector and API in one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from loopgrid_query.cli.console import print_json_line, stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.settings import read_settings

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from loopgrid_collector.config import CollectorConfig
    from loopgrid_collector.guard import Guard
    from loopgrid_collector.ingest import Ingest
    from loopgrid_collector.ledger.ledger import Ledger
    from loopgrid_collector.server import Addresses
    from loopgrid_query.replay.providers import Providers

_API_PORT_HELP = "Port of the API, which takes OTLP/HTTP too; 0 for any free one."


def serve(
    ledger: Annotated[
        str | None, typer.Option(help="DuckDB file of the ledger.  [default: loopgrid.duckdb]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help=f"{_API_PORT_HELP}  [default: 8000]")] = None,
    otlp_http_port: Annotated[
        int | None, typer.Option(help="Port for OTLP over HTTP.  [default: 4318]")
    ] = None,
    otlp_grpc_port: Annotated[
        int | None, typer.Option(help="Port for OTLP over gRPC.  [default: 4317]")
    ] = None,
    forward: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="OTLP/HTTP endpoint that gets what was received, once it is stored."
        ),
    ] = None,
    forward_header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=@FILE",
            help="Header for that endpoint; its value is read from the file. NAME=VALUE works too, for what "
            "is no secret. May be repeated.",
        ),
    ] = None,
    quack: Annotated[
        bool | None,
        typer.Option(
            "--quack", help="Let other DuckDB processes on this machine attach the ledger, to read."
        ),
    ] = None,
    quack_port: Annotated[int | None, typer.Option(help="Port for them.  [default: 9494]")] = None,
    insecure: Annotated[
        bool | None,
        typer.Option(
            "--insecure", help="Take requests from other machines although there is no API key yet."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="When ready, print the addresses as one line of JSON.")
    ] = False,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    The environment variables LOOPGRID_LEDGER, LOOPGRID_HOST, LOOPGRID_PORT, LOOPGRID_OTLP_HTTP_PORT,
    LOOPGRID_OTLP_GRPC_PORT, LOOPGRID_INSECURE, LOOPGRID_QUACK,
    LOOPGRID_QUACK_PORT, LOOPGRID_FORWARD and LOOPGRID_FORWARD_HEADERS (name=value,…)
    stand for the options of these names.
    """
    # Imported late: DuckDB, Arrow and gRPC take a second that no other command shall wait.
    from loopgrid_collector import logs
    from loopgrid_collector.server import Server
    from loopgrid_query.app import statement_check
    from loopgrid_query.replay.providers import Providers

    # Standard output holds the addresses; what the server has to say while it runs goes to stderr.
    logs.configure(sys.stderr)
    config = read_settings(
        ledger=ledger,
        host=host,
        insecure=insecure,
        quack=quack,
        quack_port=quack_port,
        port=port,
        otlp_http_port=otlp_http_port,
        otlp_grpc_port=otlp_grpc_port,
        forward=forward,
        forward_headers=_headers(forward_header),
    )

    # Before anything is opened: a mistake in it ends the start.
    providers = Providers.read(config.providers, os.environ)
    server = Server(config, partial(_app, config, providers), statement_check)
    raise typer.Exit(server.run(lambda addresses: _announce(addresses, config.ledger, as_json=as_json)))


def _app(
    config: CollectorConfig,
    providers: Providers,
    ledger: Ledger,
    ingest: Ingest,
    routes: Sequence[BaseRoute],
    guard: Guard,
) -> ASGIApp:
    from loopgrid_query.app import create_app

    return create_app(ledger, ingest, guard, extra_routes=routes, config=config, providers=providers)


def _announce(addresses: Addresses, ledger: str, *, as_json: bool) -> None:
    if as_json:
        print_json_line(
            {
                "api": addresses.api,
                "otlp_http": addresses.otlp_http,
                "otlp_grpc": addresses.otlp_grpc,
                **({"quack": addresses.quack} if addresses.quack else {}),
                "ledger": ledger,
                "pid": os.getpid(),
            }
        )
        return
    stdout().print(
        f"LoopGrid is ready.\n"
        f"  API        {addresses.api}  (its documentation: {addresses.api}/docs)\n"
        f"  OTLP/HTTP  {addresses.otlp_http}\n"
        f"  OTLP/gRPC  {addresses.otlp_grpc}\n"
        + (f"  DuckDB     {addresses.quack}\n" if addresses.quack else "")
        + f"  ledger     {ledger}",
        soft_wrap=True,
    )


def _headers(words: Sequence[str] | None) -> str | None:
    """The setting `forward_headers` of ``name=value`` and ``name=@file`` words; None without any.

    Raises:
        CliError: a word has no ``=``, or its file cannot be read. A value is never repeated.
    """
    if not words:
        return None
    pairs = []
    for place, word in enumerate(words, start=1):
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise CliError(f"--forward-header number {place} is not NAME=@FILE or NAME=VALUE.")
        if value.startswith("@"):
            try:
                value = Path(value[1:]).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                raise CliError(
                    f"cannot read the file of --forward-header {name}; check the path after the @."
                ) from error
        pairs.append(f"{name}={quote(value)}")
    return ",".join(pairs)
