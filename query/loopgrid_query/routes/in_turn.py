"""Who only reads takes turns, so that many readers at once do not keep ingestion from the processors."""

from __future__ import annotations

from typing import Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopgrid_query import access

READS_AT_ONCE: Final = 2
"""Answers that are put together at the same time, one for each processor of the machine that was
measured: with 40, the last of a crowd was served no sooner, and arriving spans waited for seconds."""


class InTurn:
    """Lets so many reading requests through at once; the others wait in order, which costs no thread.

    A turn ends where the answer begins: whoever takes a long answer slowly keeps nobody waiting.
    """

    def __init__(self, app: ASGIApp, at_once: int = READS_AT_ONCE) -> None:
        """Stand before an application.

        Args:
            app: the application.
            at_once: requests that it gets at the same time.
        """
        self._app = app
        self._turns = anyio.CapacityLimiter(at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not access.reads_content(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        turn: object | None = object()
        await self._turns.acquire_on_behalf_of(turn)

        def end() -> None:
            nonlocal turn
            ended, turn = turn, None
            if ended is not None:
                self._turns.release_on_behalf_of(ended)

        async def passed_on(message: Message) -> None:
            end()
            await send(message)

        try:
            await self._app(scope, receive, passed_on)
        finally:
            end()
