"""What whoever runs a replay tells the server: requests, and a pulse while it runs."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final, Self

from loopgrid.errors import LoopGridError
from loopgrid.life import error_type
from loopgrid.overrides import Overrides
from loopgrid.request import Call, as_json
from loopgrid.results import ReplayRecord, Result

LEASE_S: Final = 30.0
"""Seconds without a heartbeat after which the server takes a replay from whoever runs it."""
HEARTBEAT_S: Final = LEASE_S / 3
"""Seconds between two heartbeats: two may be lost."""
MAX_REASON_CHARS: Final = 2000
NOT_ENDED: Final = frozenset({"pending", "running"})
"""Statuses of a replay from which something may still come."""
FIRST_LOOK_S: Final = 0.05
MAX_LOOK_S: Final = 1.0
"""Seconds between two looks at a replay that is waited for; doubled from the one up to the other."""


def this_process(part: str = "") -> str:
    """How this process is named where it runs replays: host, process and, of one of several, which."""
    return f"{socket.gethostname()}:{os.getpid()}" + (f":{part}" if part else "")


def named(error: BaseException) -> str:
    """An exception in one line: its type, and what it says."""
    said = str(error)
    return (f"{error_type(error)}: {said}" if said else error_type(error))[:MAX_REASON_CHARS]


def begin(decision_id: str, overrides: Mapping[str, Any], worker: str) -> Call[ReplayRecord]:
    """Ask for a replay that this process runs itself, at once.

    Raises:
        Invalid: an override is unknown.
    """
    Overrides.checked(overrides)
    body = {
        "decision_id": decision_id,
        "overrides": as_json(overrides, "overrides"),
        "executor": "function",
        "worker": worker,
        "lease_s": LEASE_S,
    }
    return Call("POST", "/v1/replays", ReplayRecord, body=body, settles=True, recorded=True)


def claim(worker: str, functions: Collection[str], modules: Collection[str], wait_s: float) -> Call[Result]:
    """Ask for a replay to run; the answer comes once there is one, or after `wait_s` seconds without."""
    body = {
        "worker": worker,
        "functions": sorted(functions),
        "modules": sorted(modules),
        "wait_s": wait_s,
        "lease_s": LEASE_S,
    }
    return Call("POST", "/v1/replays/claim", Result, body=body)


def leave(worker: str) -> Call[Result]:
    """Have the claims of a worker that wait answered with nothing."""
    return Call("POST", "/v1/replays/leave", Result, body={"worker": worker}, repeatable=True)


def heartbeat(replay_id: str, worker: str, attempt: int) -> Call[Result]:
    """Say that an attempt still runs; Conflict where it shall not any more."""
    body = {"worker": worker, "attempt": attempt}
    return Call("POST", f"/v1/replays/{replay_id}/heartbeat", Result, body=body, repeatable=True)


def finish(
    replay_id: str, worker: str, attempt: int, outcome: str, reason: str | None = None
) -> Call[ReplayRecord]:
    """Say what became of an attempt: `ran`, `failed`, `refused` or `given_back`."""
    body: dict[str, Any] = {"worker": worker, "attempt": attempt, "outcome": outcome}
    if reason is not None:
        body["reason"] = reason
    path = f"/v1/replays/{replay_id}/finish"
    return Call("POST", path, ReplayRecord, body=body, repeatable=True, recorded=True)


class Looks:
    """When to look again at what is waited for."""

    def __init__(self, timeout_s: float) -> None:
        self._due = time.monotonic() + timeout_s
        self._next_s = FIRST_LOOK_S

    def pause_s(self) -> float | None:
        """Seconds until the next look, or None where the time is over."""
        left_s = self._due - time.monotonic()
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, MAX_LOOK_S)
        return min(pause_s, left_s) if left_s > 0 else None


class Pulse:
    """Heartbeats from a thread of their own, for the length of a block."""

    def __init__(self, beat: Callable[[], object]) -> None:
        self._beat = beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loopgrid-replay-pulse", daemon=True)

    def _run(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            # One that is lost is followed by another; that the lease is over is told where the replay ends.
            with suppress(LoopGridError):
                self._beat()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; a heartbeat under way is not waited for."""
        self._over.set()
