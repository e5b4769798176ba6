"""The whole server in one process and on one event loop: the API, OTLP over HTTP and over gRPC.

The order of a start is the order of what can refuse it: ports, then the ledger, then traffic. A stop
walks back: no new requests, those under way are answered, ingest is drained, the ledger is closed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import uvicorn
import uvloop
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.receivers import sockets
from loopgrid_collector.receivers.grpc import GrpcDoor
from loopgrid_collector.receivers.http import otlp_app, otlp_routes
from loopgrid_collector.receivers.limits import Budget

KEEP_ALIVE_S: Final = 75
"""Longer than the pause between an exporter's batches: closing at the same moment costs it a retry."""

_API_FLAG: Final = "--port"
_HTTP_FLAG: Final = "--otlp-http-port"
_GRPC_FLAG: Final = "--otlp-grpc-port"
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

ApiFactory = Callable[[Ledger, Ingest, list[BaseRoute]], ASGIApp]
"""Makes the API's application. It mounts the routes that it is given."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started server can be reached.

    Attributes:
        api: base URL of the API; OTLP/HTTP is taken there too.
        otlp_http: base URL of the OTLP/HTTP port.
        otlp_grpc: ``host:port`` of the OTLP/gRPC port.
    """

    api: str
    otlp_http: str
    otlp_grpc: str


class Server:
    """One server. It is started once and stopped once."""

    def __init__(self, config: CollectorConfig, api: ApiFactory | None) -> None:
        """Prepare; nothing is opened yet.

        Args:
            config: settings.
            api: makes the API's application; without it the API port takes OTLP only.
        """
        self._config = config
        self._api = api
        self._running = AsyncExitStack()
        self._grace_s = config.shutdown_grace_s
        self._stopping = False

    async def start(self) -> Addresses:
        """Open everything. On an error, everything opened so far is closed again.

        Raises:
            PortTaken: another program listens on a port; names the port and its flag.
            Fatal: the ledger cannot be opened, or a setting cannot be used.
        """
        config = self._config
        async with AsyncExitStack() as stack:
            api = _Listener(stack, config.host, config.port, _API_FLAG)
            otlp_http = _Listener(stack, config.host, config.otlp_http_port, _HTTP_FLAG)
            grpc = GrpcDoor(config)
            stack.push_async_callback(self._stop_grpc, grpc)
            otlp_grpc = grpc.bind(_GRPC_FLAG)

            # In a thread, as its closing is: the loop stays free for a second signal.
            ledger = await asyncio.to_thread(Ledger.open, config.ledger, config)
            stack.push_async_callback(asyncio.to_thread, ledger.close)
            ingest = Ingest(ledger, config)
            stack.push_async_callback(asyncio.to_thread, ingest.close)

            budget = Budget(config.max_queued_bytes)
            routes = otlp_routes(ingest, config, budget)
            otlp = otlp_app(routes, self._is_stopping)
            doors = _Doors(grpc)
            stack.push_async_callback(self._stop_doors, doors)
            await grpc.start(ingest, budget)
            await doors.open(otlp_http, otlp)
            await doors.open(api, self._api(ledger, ingest, routes) if self._api else otlp)
            self._running = stack.pop_all()
        return Addresses(f"http://{api.reachable}", f"http://{otlp_http.reachable}", otlp_grpc)

    async def stop(self, grace_s: float | None = None) -> None:
        """Stop taking requests, answer those under way, store what was acknowledged, close the ledger.

        Args:
            grace_s: seconds that requests under way get; by default the configured ones.
        """
        self._stopping = True
        if grace_s is not None:
            self._grace_s = grace_s
        await self._running.aclose()

    def run(self, on_ready: Callable[[Addresses], None]) -> int:
        """Serve until SIGTERM or SIGINT, then stop cleanly. A second signal ends the process at once.

        Args:
            on_ready: called once every port takes requests.

        Returns:
            The exit code of the process, 0.

        Raises:
            Fatal: as in ``start``.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._until_signalled(on_ready))

    async def _until_signalled(self, on_ready: Callable[[Addresses], None]) -> int:
        loop = asyncio.get_running_loop()
        told = asyncio.Event()

        def tell() -> None:
            if told.is_set():
                # Everything acknowledged is on disk; what is lost is tidiness.
                os._exit(1)
            told.set()

        for each in _STOP_SIGNALS:
            loop.add_signal_handler(each, tell)
        try:
            addresses = await self.start()
            try:
                on_ready(addresses)
                await told.wait()
            finally:
                await self.stop()
        finally:
            for each in _STOP_SIGNALS:
                loop.remove_signal_handler(each)
        return 0

    def _is_stopping(self) -> bool:
        return self._stopping

    async def _stop_doors(self, doors: _Doors) -> None:
        await doors.close(self._grace_s)

    async def _stop_grpc(self, grpc: GrpcDoor) -> None:
        await grpc.stop(self._grace_s)


class _Listener:
    """One bound port, given back when the stack unwinds."""

    def __init__(self, stack: AsyncExitStack, host: str, port: int, flag: str) -> None:
        self.flag = flag
        self.sockets, addresses, self.port = sockets.bind(host, port, flag)
        self.reachable = addresses[0].with_port(self.port)
        stack.callback(sockets.close, self.sockets)


class _Doors:
    """The servers that take traffic, closed together."""

    def __init__(self, grpc: GrpcDoor) -> None:
        self._grpc = grpc
        self._http: list[_HttpServer] = []

    async def open(self, listener: _Listener, app: ASGIApp) -> None:
        sockets.listen(listener.sockets, listener.port, listener.flag)
        server = _HttpServer(app, listener.sockets)
        await server.start()
        self._http.append(server)

    async def close(self, grace_s: float) -> None:
        await asyncio.gather(self._grpc.stop(grace_s), *(server.stop(grace_s) for server in self._http))


class _HttpServer(uvicorn.Server):
    """uvicorn on sockets that are ours, without its signal handlers: this process has one owner."""

    def __init__(self, app: ASGIApp, listening: list[socket.socket]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                backlog=sockets.BACKLOG,
            )
        )
        self._listening = listening

    async def start(self) -> None:
        """Accept connections; what ``serve`` does, but for the signals and the waiting."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=self._listening)
        self._ticking = asyncio.create_task(self.main_loop(), name="http-ticks")

    async def stop(self, grace_s: float) -> None:
        """Accept no more; requests under way get ``grace_s`` seconds."""
        self.should_exit = True
        await self._ticking
        self.config.timeout_graceful_shutdown = math.ceil(grace_s)
        await self.shutdown(sockets=self._listening)
