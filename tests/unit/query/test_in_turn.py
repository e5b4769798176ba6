"""Requests that only read take turns."""

from __future__ import annotations

import asyncio

from loopgrid_query.routes.in_turn import InTurn


def asked(method: str, path: str):
    return {"type": "http", "method": method, "path": path}


class App:
    """Answers when it is told to, and knows who is with it."""

    def __init__(self):
        self.entered = []
        self.begin = asyncio.Event()
        self.end = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.entered.append(f"{scope['method']} {scope['path']}")
        await self.begin.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.end.wait()
        await send({"type": "http.response.body", "body": b""})


async def nothing(*_):
    return None


async def settled():
    """Until every task that can go on has."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_so_many_read_at_once_and_the_others_in_the_order_in_which_they_came():
    async def main():
        app = App()
        door = InTurn(app, at_once=2)
        reads = [asyncio.create_task(door(asked("GET", f"/v1/{n}"), nothing, nothing)) for n in range(5)]
        await settled()
        before = list(app.entered)
        app.begin.set()
        await settled()
        after = list(app.entered)
        app.end.set()
        await asyncio.gather(*reads)
        return before, after

    before, after = asyncio.run(main())

    assert before == ["GET /v1/0", "GET /v1/1"]
    # None of them has ended: a turn ends where the answer begins.
    assert after == [f"GET /v1/{n}" for n in range(5)]


def test_what_writes_and_what_shows_no_content_waits_for_nobody():
    async def main():
        app = App()
        door = InTurn(app, at_once=1)
        wanted = [("GET", "/v1/a"), ("GET", "/v1/b"), ("POST", "/v1/decisions"), ("GET", "/healthz")]
        tasks = [asyncio.create_task(door(asked(*each), nothing, nothing)) for each in wanted]
        await settled()
        entered = list(app.entered)
        app.begin.set()
        app.end.set()
        await asyncio.gather(*tasks)
        return entered

    assert sorted(asyncio.run(main())) == ["GET /healthz", "GET /v1/a", "POST /v1/decisions"]


def test_a_turn_comes_back_from_who_fails_and_from_who_goes_away_while_waiting():
    async def main():
        async def fails(*_):
            raise LookupError

        door = InTurn(fails, at_once=1)
        failed = [
            await asyncio.gather(door(asked("GET", "/v1/a"), nothing, nothing), return_exceptions=True)
            for _ in range(3)
        ]

        app = App()
        door = InTurn(app, at_once=1)
        tasks = [asyncio.create_task(door(asked("GET", f"/v1/{n}"), nothing, nothing)) for n in range(3)]
        await settled()
        tasks[1].cancel()
        await settled()
        app.begin.set()
        app.end.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return failed, app.entered

    failed, entered = asyncio.run(main())

    assert all(isinstance(error, LookupError) for (error,) in failed)
    assert entered == ["GET /v1/0", "GET /v1/2"]
