"""Model calls about numbered tickets, a provider that answers them, and what people say is right.

The model on record answers ``answer N`` to ``ticket N``, and says so again. The model ``better`` answers
``right N``, the model ``worse`` ``wrong N``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import urllib3

from loopgrid import LoopGrid
from tests.support.provider_stub import Asked, Reply, answered
from tests.support.server import RunningServer
from tests.support.spans import chat, traces

WORDS = {"better": "right", "worse": "wrong"}


def ticket_of(asked: Asked) -> int:
    """The number of the ticket that a request is about."""
    found = re.search(r"ticket (\d+)", json.dumps(asked.body["messages"]))
    assert found is not None
    return int(found[1])


def reads_tickets(asked: Asked) -> Reply:
    """The provider's answer to a ticket."""
    word = WORDS.get(asked.body["model"], "answer")
    return answered(asked, content=f"{word} {ticket_of(asked)}")


def said(word: str, number: int) -> list[dict[str, Any]]:
    """An output as it is recorded of such an answer."""
    parts = [{"type": "text", "content": f"{word} {number}"}]
    return [{"role": "assistant", "parts": parts, "finish_reason": "stop"}]


def id_of(number: int) -> str:
    """The decision about a ticket."""
    return f"{number:032x}-{number:016x}"


def record(server: RunningServer, numbers: Sequence[int]) -> list[str]:
    """Model calls about tickets, recorded as an instrumentation sends them."""
    body = b"".join(traces(chat(number)) for number in numbers)
    headers = {"Content-Type": "application/x-protobuf"}
    answer = urllib3.request("POST", f"{server.otlp_http}/v1/traces", body=body, headers=headers, timeout=60)
    assert answer.status == 200, answer.data
    return [id_of(number) for number in numbers]


def correct(grid: LoopGrid, wrong: Sequence[int], right: Sequence[int] = ()) -> None:
    """Say that some were wrong, and what is right; and that others were right."""
    for number in wrong:
        grid.attach_correction(id_of(number), correction=said("right", number), corrected_by="dana")
    for number in right:
        grid.attach_correction(id_of(number), correction=said("answer", number), corrected_by="dana")


def providers(folder: Path, base_url: str, calls: int = 8, more: str = "") -> dict[str, str]:
    """The environment of a server that asks a provider."""
    path = folder / "providers.toml"
    path.write_text(f'[openai]\nbase_url = "{base_url}"\napi_key_env = "THE_KEY"\n{more}')
    return {
        "LOOPGRID_PROVIDERS": str(path),
        "LOOPGRID_MAX_MODEL_CALLS": str(calls),
        "THE_KEY": "sk-very-secret",
    }


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until it does; how long is the machine's business, up to a minute."""
    tick = threading.Event()
    for _ in range(1_200):
        if holds():
            return
        tick.wait(0.05)
    raise AssertionError(f"never came true: {what}")


def ended(grid: LoopGrid, experiment_id: str) -> Any:
    """An experiment once it is not running any more."""
    eventually(lambda: grid.get_experiment(experiment_id).status != "running", "the experiment ends")
    return grid.get_experiment(experiment_id)
