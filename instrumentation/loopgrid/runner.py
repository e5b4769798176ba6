"""A process that runs replays in the user's code, one after the other: the child of a `loopgrid worker`.

It may hang, be killed, exit, fork or print: the worker that started it bounds and outlives it. They talk over
one socket, in lines of JSON. Standard output is the worker's, so what is printed here goes to its standard
error.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from loopgrid import tape, tracing
from loopgrid.client import LoopGrid
from loopgrid.definition import registered
from loopgrid.errors import LoopGridError
from loopgrid.loading import load
from loopgrid.overrides import Overrides
from loopgrid.replaying import prepare, run
from loopgrid.working import LEASE_S, named

DELIVERY_S: Final = 30.0
"""Seconds that the record of a run may take to arrive, after the run."""

ALONE_S: Final = LEASE_S
"""Seconds that a run may still take when its worker is gone. A result in that time counts; after it the lease
is over, somebody else runs the replay, and nobody would ever end this one."""

Message = dict[str, Any]


class Line:
    """The socket to the other side. Not thread-safe."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            OSError: the other side is gone.
        """
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Message | None:
        """The next message; None once the other side is gone."""
        try:
            line = self._reader.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        """Let go of this end; the other copies of it stay."""
        self._reader.close()
        self._connection.close()


def serve(line: Line, module: str) -> int:
    """Import the module, say what it offers, and run what comes until the other side is gone.

    Returns:
        The exit code: 0, or 1 where the module cannot be used.
    """
    try:
        # Before the module: what that configures must not lead elsewhere.
        grid = LoopGrid()
        load(module)
        grid._check_recording_goes_here()  # noqa: SLF001 - as its own replay() does
    except LoopGridError as error:
        line.send({"broken": str(error)})
        return 1
    modules = [name for name in sys.modules if name == module or name.startswith(f"{module}.")]
    line.send({"functions": sorted(registered()), "modules": sorted(modules)})
    here = os.getpid()
    while (job := line.receive()) is not None:
        answer = _run(grid, job)
        if os.getpid() != here:
            # A copy that the function forked came back out of it. The other one is the run.
            _end_copy()
        line.send(answer)
    return 0


def _end_copy() -> NoReturn:
    os._exit(0)


def _run(grid: LoopGrid, job: Message) -> Message:
    """Run one attempt, and what there is to say about it."""
    here = os.getpid()
    try:
        overrides = Overrides.checked(job["overrides"] or {})
        call = prepare(job["decision"], overrides, None, grid._find_prompt)  # noqa: SLF001 - as its own replay() does
        steps = grid._tape(job["decision_id"], overrides)  # noqa: SLF001 - likewise
    except LoopGridError as error:
        return {"outcome": "refused", "reason": f"Nothing ran: {error}"}
    except BaseException as error:  # noqa: BLE001 - restoring an argument runs the user's classes
        reason = f"Nothing ran: the arguments cannot be restored: {named(error)}"
        return {"outcome": "refused", "reason": reason}
    raised: BaseException | None
    try:
        # In every thread: this process runs nothing else.
        with tape.playing(steps, whole_process=True):
            raised = run(call, job["replay_id"], job["decision_id"], job["run_as"])
    except BaseException as error:  # noqa: BLE001 - a function that exits or is interrupted has failed like any other
        raised = error
    if os.getpid() != here:
        return {}
    if not tracing.drain(DELIVERY_S):
        reason = f"it ran, but its record did not reach the server within {DELIVERY_S:g} s"
        return {"outcome": "failed", "reason": reason}
    refused = None if steps is None else steps.failure()
    if refused is not None:
        return {"outcome": "failed", "reason": refused}
    return {"outcome": "ran", "reason": None if raised is None else named(raised)}


def end_when_alone(connection: socket.socket, alone_s: float) -> None:
    """End this process, and what the function started, so many seconds after the other side is gone."""
    gone = select.poll()
    # Nothing is read here: that the other side closed is told without being asked for.
    gone.register(connection.fileno(), 0)
    gone.poll()
    threading.Event().wait(alone_s)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> int:
    """`python -m loopgrid.runner DESCRIPTOR MODULE`, as a worker starts it."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)  # noqa: FBT003 - no name for it
    line = Line(connection)
    threading.Thread(target=end_when_alone, args=(connection, ALONE_S), daemon=True).start()
    if hasattr(os, "register_at_fork"):
        # A copy must not hold the line open, nor speak on it.
        os.register_at_fork(after_in_child=line.close)
    return serve(line, sys.argv[2])


if __name__ == "__main__":
    sys.exit(main())
