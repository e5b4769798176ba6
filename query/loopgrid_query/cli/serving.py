"""``loopgrid serve``: collector and API in one process."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Annotated

import typer

from loopgrid_query.cli.console import print_json_line, stdout

if TYPE_CHECKING:
    from loopgrid_collector.server import Addresses

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
    as_json: Annotated[
        bool, typer.Option("--json", help="When ready, print the addresses as one line of JSON.")
    ] = False,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    The environment variables LOOPGRID_LEDGER, LOOPGRID_HOST, LOOPGRID_PORT, LOOPGRID_OTLP_HTTP_PORT
    and LOOPGRID_OTLP_GRPC_PORT stand for the options of these names.
    """
    # Imported late: DuckDB, Arrow and gRPC take a second that no other command shall wait.
    from loopgrid_collector.config import CollectorConfig
    from loopgrid_collector.server import Server
    from loopgrid_query.app import create_app

    # Standard output holds the addresses; what the server has to say while it runs goes to stderr.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = CollectorConfig.from_env(
        os.environ,
        ledger=ledger,
        host=host,
        port=port,
        otlp_http_port=otlp_http_port,
        otlp_grpc_port=otlp_grpc_port,
    )

    def announce(addresses: Addresses) -> None:
        if as_json:
            print_json_line(
                {
                    "api": addresses.api,
                    "otlp_http": addresses.otlp_http,
                    "otlp_grpc": addresses.otlp_grpc,
                    "ledger": config.ledger,
                    "pid": os.getpid(),
                }
            )
            return
        stdout().print(
            f"LoopGrid is ready.\n"
            f"  API        {addresses.api}  (its documentation: {addresses.api}/docs)\n"
            f"  OTLP/HTTP  {addresses.otlp_http}\n"
            f"  OTLP/gRPC  {addresses.otlp_grpc}\n"
            f"  ledger     {config.ledger}",
            soft_wrap=True,
        )

    server = Server(config, lambda ledger, ingest, routes: create_app(ledger, ingest, extra_routes=routes))
    raise typer.Exit(server.run(announce))
