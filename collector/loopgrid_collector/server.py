"""The whole server in one process and on one event loop: the API, OTLP over HTTP and over gRPC.

The order of a start is the order of what can refuse it: ports, then the ledger, then traffic. A stop
walks back: no new requests, those under way are answered, ingest is drained, the ledger is closed, and what
still waits to be passed on gets the rest of the grace period.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, cast

import uvicorn
import uvloop
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from loopgrid_collector import runtime
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured, Retryable
from loopgrid_collector.forward import Forwarder, ForwardingIngest
from loopgrid_collector.forward_target import refuse_own, target
from loopgrid_collector.guard import Guard
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Append
from loopgrid_collector.metrics import metrics_route
from loopgrid_collector.quack import Check, QuackDoor
from loopgrid_collector.receivers import sockets, tls
from loopgrid_collector.receivers.connections import Connections
from loopgrid_collector.receivers.grpc import GrpcDoor
from loopgrid_collector.receivers.health import State
from loopgrid_collector.receivers.http import otlp_app, otlp_routes
from loopgrid_collector.receivers.limits import Budget

KEEP_ALIVE_S: Final = 75
"""Longer than the pause between an exporter's batches: closing at the same moment costs it a retry."""

PROBE_S: Final = 2.0
"""Seconds between two attempts to find the storage working again."""

_READERS_GRACE_SHARE: Final = 0.7
"""Part of a stop's grace after which running statements are interrupted."""

_API_FLAG: Final = "--port"
_HTTP_FLAG: Final = "--otlp-http-port"
_GRPC_FLAG: Final = "--otlp-grpc-port"
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

ApiFactory = Callable[[Ledger, Ingest, list[BaseRoute], Guard], ASGIApp]
"""Makes the API's application. It mounts the routes that it is given, which ask the guard themselves."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started server can be reached.

    Attributes:
        api: base URL of the API; OTLP/HTTP is taken there too.
        otlp_http: base URL of the OTLP/HTTP port.
        otlp_grpc: ``host:port`` of the OTLP/gRPC port.
        quack: what another DuckDB attaches; None without ``quack``.
    """

    api: str
    otlp_http: str
    otlp_grpc: str
    quack: str | None = None


class Server:
    """One server. It is started once and stopped once."""

    def __init__(
        self,
        config: CollectorConfig,
        api: ApiFactory | None,
        statements: Callable[[ASGIApp], Check] | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            config: settings.
            api: makes the API's application; without it the API port takes OTLP only.
            statements: gives the application's check of a client's SQL, which ``quack`` needs.
        """
        self._config = config
        self._api = api
        self._statements = statements
        self._running = AsyncExitStack()
        self._grace_s = config.shutdown_grace_s
        self._stopping = False
        self._stopped_by = 0.0

    async def start(self) -> Addresses:
        """Open everything. On an error, everything opened so far is closed again.

        Raises:
            PortTaken: another program listens on a port; names the port and its flag.
            Fatal: the ledger cannot be opened, or a setting cannot be used.
        """
        config = self._config
        async with AsyncExitStack() as stack:
            api = _Listener(stack, config, config.port, _API_FLAG)
            otlp_http = _Listener(stack, config, config.otlp_http_port, _HTTP_FLAG)
            if config.otlp_http_socket:
                otlp_http.add_path(stack, config.otlp_http_socket)
            secure = tls.Tls.of(config)
            grpc = GrpcDoor(config, secure)
            stack.push_async_callback(self._stop_grpc, grpc)
            otlp_grpc = grpc.bind(_GRPC_FLAG)
            forwarder = await self._forwarder(stack, [*api.bound, *otlp_http.bound], otlp_grpc)

            # In a thread, as its closing is: the loop stays free for a second signal.
            quack = QuackDoor(config.quack_port) if config.quack and self._statements else None
            ledger = await asyncio.to_thread(
                Ledger.open, config.ledger, config, quack.port if quack else None
            )
            stack.push_async_callback(asyncio.to_thread, ledger.close)
            guard = self._guard(ledger, [ip for ip, _ in api.bound])
            stack.push_async_callback(asyncio.to_thread, guard.close)
            ingest = ForwardingIngest(ledger, config, forwarder) if forwarder else Ingest(ledger, config)
            stack.push_async_callback(asyncio.to_thread, ingest.close)

            budget = Budget(config.max_queued_bytes)
            routes = [
                *otlp_routes(ingest, config, guard, budget),
                metrics_route(ledger, ingest, budget, guard),
            ]

            def state() -> State:
                if self._stopping:
                    return State.STOPPING
                return State.READY if ledger.usable else State.STORAGE_TROUBLE

            otlp = otlp_app(routes, state, config.otlp_path_prefix)
            doors = _Doors(grpc, Connections.of(config), secure)
            stack.push_async_callback(self._stop_doors, doors, ledger)
            await grpc.start(ingest, guard, budget, state)
            await doors.open(otlp_http, otlp)
            app = self._api(ledger, ingest, routes, guard) if self._api else otlp
            await doors.open(api, app)
            stack.callback(ingest.tell_stop)
            if quack is not None and self._statements is not None:
                quack.open_to(guard, self._statements(app))
            _keep_up(stack, _probe(ledger), "storage-probe")
            if secure is not None:
                _keep_up(stack, _reload(secure), "tls-reload")
            self._running = stack.pop_all()
        scheme = "http" if secure is None else "https"
        return Addresses(
            f"{scheme}://{api.reachable}",
            f"{scheme}://{otlp_http.reachable}",
            otlp_grpc,
            quack.port.address if quack else None,
        )

    async def stop(self, grace_s: float | None = None) -> None:
        """Stop taking requests, answer those under way, store what was acknowledged, close the ledger.

        Args:
            grace_s: seconds that requests under way get; by default the configured ones.
        """
        self._stopping = True
        if grace_s is not None:
            self._grace_s = grace_s
        self._stopped_by = asyncio.get_running_loop().time() + self._grace_s
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
        runtime.keep_memory()
        runtime.settle_absent_modules()
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
            runtime.spare_the_old()
            try:
                on_ready(addresses)
                await told.wait()
            finally:
                await self.stop()
        finally:
            for each in _STOP_SIGNALS:
                loop.remove_signal_handler(each)
        return 0

    def _guard(self, ledger: Ledger, bound: list[str]) -> Guard:
        """Who may do what.

        Raises:
            Misconfigured: other machines could reach a ledger that has no key.
        """
        reachable = [ip for ip in bound if not ipaddress.ip_address(ip.partition("%")[0]).is_loopback]
        guard = Guard(ledger, first_key_by_request=not reachable)
        if reachable and not guard.keys.required and not self._config.insecure:
            raise Misconfigured(
                f"The ledger has no API key, and other machines can reach {reachable[0]}: make one with "
                "`loopgrid keys create --ledger`, bind 127.0.0.1, or say --insecure (LOOPGRID_INSECURE) if "
                "something else keeps strangers out."
            )
        return guard

    async def _forwarder(
        self, stack: AsyncExitStack, own: list[tuple[str, int]], otlp_grpc: str
    ) -> Forwarder | None:
        """The forwarder, sending; none without ``forward``."""
        config = self._config
        if not config.forward:
            return None
        aim = target(config.forward, config.forward_headers)
        grpc_port = int(otlp_grpc.rpartition(":")[2])
        own = own + [(ip, grpc_port) for ip, _ in own]
        # In a thread: a name is looked up.
        await asyncio.to_thread(refuse_own, aim, own)
        forwarder = Forwarder(aim, queue_bytes=config.forward_queue_bytes, timeout_s=config.forward_timeout_s)
        forwarder.start()
        stack.push_async_callback(self._stop_forwarder, forwarder)
        return forwarder

    async def _stop_forwarder(self, forwarder: Forwarder) -> None:
        rest_s = self._stopped_by - asyncio.get_running_loop().time()
        await asyncio.to_thread(forwarder.close, max(0.0, rest_s))

    async def _stop_doors(self, doors: _Doors, ledger: Ledger) -> None:
        # Statements that run on are ended while there is still time to tell their clients so.
        told = asyncio.get_running_loop().call_later(
            self._grace_s * _READERS_GRACE_SHARE, ledger.interrupt_readers
        )
        await doors.close(self._grace_s)
        told.cancel()
        ledger.interrupt_readers()

    async def _stop_grpc(self, grpc: GrpcDoor) -> None:
        await grpc.stop(self._grace_s)


def _keep_up(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    """Run ``work`` until the stack unwinds."""
    task = asyncio.create_task(work, name=name)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


async def _probe(ledger: Ledger) -> None:
    """After storage trouble, see whether it has passed.

    A load balancer that was told of the trouble sends nothing any more, and without anything to store
    nobody would notice.
    """
    while True:
        await asyncio.sleep(PROBE_S)
        if not ledger.usable:
            try:
                await asyncio.wrap_future(ledger.append(Append()))
            except Retryable:
                continue


async def _reload(secure: tls.Tls) -> None:
    while True:
        await asyncio.sleep(tls.RELOAD_S)
        await asyncio.to_thread(secure.reload)


class _Listener:
    """One bound port, given back when the stack unwinds."""

    def __init__(self, stack: AsyncExitStack, config: CollectorConfig, port: int, flag: str) -> None:
        self.flag = flag
        self.sockets, addresses, self.port = sockets.bind(config.host, port, flag, config.ip_family)
        self.reachable = addresses[0].with_port(self.port)
        self.bound = [(address.ip, self.port) for address in addresses]
        stack.callback(sockets.close, self.sockets)

    def add_path(self, stack: AsyncExitStack, path: str) -> None:
        """Listen on a Unix socket, too."""
        self.sockets.append(sockets.bind_path(path, "LOOPGRID_OTLP_HTTP_SOCKET"))
        stack.callback(sockets.remove, path, os.lstat(path).st_ino)


class _Doors:
    """The servers that take traffic, closed together."""

    def __init__(self, grpc: GrpcDoor, connections: Connections, secure: tls.Tls | None) -> None:
        self._grpc = grpc
        self._connections = connections
        self._secure = secure
        self._http: list[_HttpServer] = []

    async def open(self, listener: _Listener, app: ASGIApp) -> None:
        sockets.listen(listener.sockets, listener.port, listener.flag)
        server = _HttpServer(app, listener.sockets, self._connections, self._secure)
        await server.start()
        self._http.append(server)

    async def close(self, grace_s: float) -> None:
        await asyncio.gather(self._grpc.stop(grace_s), *(server.stop(grace_s) for server in self._http))


class _HttpServer(uvicorn.Server):
    """uvicorn on sockets that are ours, without its signal handlers: this process has one owner."""

    def __init__(
        self,
        app: ASGIApp,
        listening: list[socket.socket],
        connections: Connections,
        secure: tls.Tls | None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                # uvicorn calls what it is given to make a connection, and asks no more of it.
                http=cast("type[asyncio.Protocol]", connections),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                backlog=sockets.BACKLOG,
                ssl_context_factory=(lambda *_: secure.context) if secure else None,
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
