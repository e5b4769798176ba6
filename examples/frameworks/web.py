"""FastAPI under uvicorn, several workers, one streaming response: `uvicorn web:app --workers 2`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import loopgrid

loopgrid.configure(service_name="web")


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    # A worker that stops sends what it holds.
    await asyncio.to_thread(loopgrid.flush)


app = FastAPI(lifespan=lifespan)


@loopgrid.tool(effect="read")
async def find_customer(name: str) -> dict[str, str]:
    await asyncio.sleep(0)
    return {"name": name, "plan": "gold"}


@loopgrid.decision("route")
def route(message: str) -> str:
    return "billing" if "charged" in message else "support"


@loopgrid.decision("reply", reduce="".join)
async def reply(name: str, message: str) -> AsyncIterator[str]:
    """Streams; the decision ends with its last word, or unfinished when the client goes away."""
    loopgrid.current().metadata(worker=os.getpid())
    customer = await find_customer(name)
    for word in (f"Dear {customer['name']},", " your", f" {route(message)}", " team", " will write."):
        await asyncio.sleep(0)
        yield word


@app.get("/reply/{name}")
async def answer(name: str, message: str) -> StreamingResponse:
    return StreamingResponse(reply(name, message), media_type="text/plain")


@app.get("/route")
def where_to(message: str) -> dict[str, str]:
    # A plain function: FastAPI runs it in a thread.
    return {"queue": route(message)}
