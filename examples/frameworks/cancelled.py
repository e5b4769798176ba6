"""asyncio: decisions at once in one loop, one cancelled by a time-out, one whose stream is left early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import loopgrid

loopgrid.configure(service_name="cancelled")

NEVER_S = 3600


@loopgrid.step("look up")
async def look_up(ticket: int) -> int:
    await asyncio.sleep(0)
    return ticket * 2


@loopgrid.decision("route")
async def route(ticket: int) -> str:
    return f"queue {await look_up(ticket) % 3}"


@loopgrid.decision("escalate")
async def escalate(ticket: int) -> str:
    await look_up(ticket)
    await asyncio.sleep(NEVER_S)
    return "never"


@loopgrid.decision("draft", reduce="".join)
async def draft(ticket: int) -> AsyncIterator[str]:
    for word in ("Dear", " customer", f" {ticket}"):
        await asyncio.sleep(0)
        yield word


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        for ticket in range(10):
            group.create_task(route(ticket))
    try:
        async with asyncio.timeout(0.2):
            await escalate(1)
    except TimeoutError:
        print("escalate took too long")
    async for word in draft(1):
        print(word)
        break
    print("".join([word async for word in draft(2)]))


if __name__ == "__main__":
    asyncio.run(main())
