"""`loopgrid worker`: claims replays and has them run by child processes that hold the user's code.

Laws:

* This process never imports the user's code. A run that hangs or exits costs a child, and the worker goes on.
* Whatever becomes of a run is told to the server with its reason. Where that cannot be told, the lease ends,
  and a result that is on record counts.
* It ends in order: no new claims, time for what runs, and what is not over then is given back.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from loopgrid import working
from loopgrid.client import LoopGrid
from loopgrid.errors import Conflict, LoopGridError, Misconfigured, NotFound, Permanent, Retryable
from loopgrid.request import Call
from loopgrid.runner import Line, Message

CLAIM_WAIT_S: Final = 25.0
"""Seconds that the server keeps a claim waiting; proxies cut what takes longer than 30 or 60."""
ANSWER_S: Final = 15.0
"""Seconds beyond that within which an answer must come."""
FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 15.0
"""Seconds between two claims while the server does not answer; doubled from the one up to the other."""
LOOK_S: Final = 0.2
"""Seconds between two looks at whether the worker shall stop, while something runs."""
LEAVE_S: Final = 2.0
"""Seconds that the server gets to answer a claim which waits when the worker shall stop."""
END_S: Final = 5.0
"""Seconds that an idle child gets to end by itself."""

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker works.

    Attributes:
        module: module with the decorated functions.
        endpoint: URL of the server.
        api_key: its key; empty for none.
        variables: environment variables of the processes that run.
        concurrency: how many replays run at once, each in a process of its own.
        time_limit_s: seconds a run may take, its record's way to the server included.
        grace_s: seconds that what runs gets when the worker shall stop.
    """

    module: str
    endpoint: str
    api_key: str
    variables: Mapping[str, str]
    concurrency: int = 1
    time_limit_s: float = 300.0
    grace_s: float = 10.0


class Worker:
    """Runs replays until it is told to stop."""

    def __init__(self, settings: WorkerSettings, tell: Tell) -> None:
        """Prepare; nothing is started yet.

        Args:
            settings: how it works.
            tell: called with everything that happens, as a JSON object with `event`; from several threads,
                one at a time.
        """
        self.settings = settings
        self._tell = tell
        self._telling = threading.Lock()
        self.stopping = threading.Event()
        self.over = threading.Event()
        """Set when what runs shall not go on."""
        self._broken: str | None = None
        self._slots = [_Slot(self, number) for number in range(1, settings.concurrency + 1)]

    def run(self) -> None:
        """Work until SIGTERM, SIGINT or `stop`. A second signal gives back what runs at once.

        Raises:
            Misconfigured: the module cannot be imported, or records to another server.
            LoopGridError: the server will have none of it, for example without a key.
        """
        with self._signals():
            for slot in self._slots:
                slot.start()
            self.stopping.wait()
            self._end()
        if self._broken is not None:
            raise Misconfigured(self._broken)

    def stop(self) -> None:
        """Begin to end."""
        self.stopping.set()

    def say(self, event: str, **facts: Any) -> None:
        """Tell what happened."""
        with self._telling:
            self._tell({"event": event, **facts})

    def give_up(self, reason: str) -> None:
        """End because nothing can be done: the reason is raised by `run`."""
        if self._broken is None:
            self._broken = reason
        self.over.set()
        self.stop()

    def _end(self) -> None:
        due = time.monotonic() + self.settings.grace_s
        self._let_end(due)
        self.over.set()
        # What cannot even be given back in this time ends with its lease.
        self._let_end(time.monotonic() + END_S + LEAVE_S)
        self.say("stopped")

    def _let_end(self, due: float) -> None:
        """Wait for the slots until a moment, or until what runs shall not go on."""
        given_time = self.over.is_set()
        while time.monotonic() < due and given_time == self.over.is_set():
            running = [slot for slot in self._slots if slot.is_alive()]
            if not running:
                return
            for slot in running:
                # Said until it is heard: a claim may be on its way still.
                slot.leave()
            running[0].join(LOOK_S)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def told(_number: int, _frame: FrameType | None) -> None:
            if self.stopping.is_set():
                self.over.set()
            self.stopping.set()

        before = {each: signal.signal(each, told) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


class _Slot(threading.Thread):
    """One of the runs that may go on at once: a thread that claims, and a child that runs."""

    def __init__(self, worker: Worker, number: int) -> None:
        super().__init__(name=f"loopgrid-worker-{number}", daemon=True)
        self._worker = worker
        self._settings = worker.settings
        self.worker_name = working.this_process(str(number))
        self._grid = self._client(CLAIM_WAIT_S + ANSWER_S)
        self._claims = threading.Event()
        self._child: _Child | None = None

    def run(self) -> None:
        try:
            self._work()
        except LoopGridError as error:
            self._worker.give_up(str(error))
        finally:
            if self._child is not None:
                self._child.end()
            self._grid.close()

    def leave(self) -> None:
        """Have the claim that waits answered, so that this thread ends."""
        if self._claims.is_set():
            with contextlib.suppress(LoopGridError), self._client(LEAVE_S) as grid:
                grid._send(working.leave(self.worker_name))  # noqa: SLF001 - as in _send

    def _client(self, timeout_s: float) -> LoopGrid:
        settings = self._settings
        return LoopGrid(
            "loopgrid-worker", endpoint=settings.endpoint, api_key=settings.api_key, timeout_s=timeout_s
        )

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._worker.stopping.is_set():
            child = self._ready_child()
            if child is None:
                return
            offer = working.claim(self.worker_name, child.functions, child.modules, CLAIM_WAIT_S)
            try:
                self._claims.set()
                claimed = self._send(offer)
            except Retryable as trouble:
                self._worker.say("waiting", worker=self.worker_name, reason=str(trouble))
                self._worker.stopping.wait(pause_s)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
                continue
            finally:
                self._claims.clear()
            pause_s = FIRST_PAUSE_S
            if claimed["replay"] is not None:
                self._attempt(child, claimed)

    def _ready_child(self) -> _Child | None:
        """A child that has the module; None where the worker shall stop."""
        child = self._child
        if child is not None and child.alive:
            return child
        if child is not None:
            child.kill()
        child = self._child = _Child(self._settings)
        hello = child.hello(self._worker.over)
        if hello is None or "broken" in hello:
            if not self._worker.over.is_set():
                how = (
                    f"{self._settings.module!r} ended the process that imported it ({child.how_it_ended()})."
                )
                self._worker.give_up(how if hello is None else str(hello["broken"]))
            return None
        if not child.functions:
            self._worker.give_up(
                f"{self._settings.module!r} defines no decorated function: there is nothing to run again."
            )
            return None
        self._worker.say("ready", worker=self.worker_name, functions=sorted(child.functions))
        return child

    def _attempt(self, child: _Child, claimed: Mapping[str, Any]) -> None:
        replay, attempt = claimed["replay"], claimed["attempt"]
        about = {"replay_id": replay["replay_id"], "attempt": attempt}
        if self._worker.stopping.is_set():
            self._finish(about, "given_back", f"{self.worker_name} stops")
            return
        self._worker.say("running", **about, function=replay["function"])
        began = time.monotonic()
        outcome, reason = self._watched(child, claimed)
        if outcome is not None:
            shown = self._finish(about, outcome, reason)
            status, reason = (outcome, reason) if shown is None else (shown["status"], shown["reason"])
        else:
            status = "let_go"
        seconds = round(time.monotonic() - began, 3)
        self._worker.say("ended", **about, status=status, reason=reason, seconds=seconds)

    def _watched(self, child: _Child, claimed: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Outcome and reason of a run; no outcome where the server has let go of it."""
        replay, attempt = claimed["replay"], claimed["attempt"]
        limit_s = self._settings.time_limit_s
        due = time.monotonic() + limit_s
        beat = time.monotonic() + working.HEARTBEAT_S
        child.begin(claimed)
        while True:
            now = time.monotonic()
            answer = child.answer(max(0.0, min(due, beat, now + LOOK_S) - now))
            if answer is not None:
                return str(answer["outcome"]), answer.get("reason")
            if not child.alive:
                how = child.how_it_ended()
                child.kill()
                return "failed", f"the function ended its process ({how})"
            now = time.monotonic()
            if now >= due:
                child.kill()
                return "failed", f"it ran for {limit_s:g} s, the time limit, and was ended"
            if self._worker.over.is_set():
                child.kill()
                return "given_back", f"{self.worker_name} stopped while it ran"
            if now >= beat:
                beat = now + working.HEARTBEAT_S
                try:
                    self._send(working.heartbeat(replay["replay_id"], self.worker_name, attempt))
                except (Conflict, NotFound) as gone:
                    child.kill()
                    return None, str(gone)
                except Retryable:
                    # The lease outlasts two that are lost.
                    pass

    def _finish(self, about: Mapping[str, Any], outcome: str, reason: str | None) -> Any:
        """Tell the server; the replay as it stands then, or None where it could not be told."""
        replay_id, attempt = about["replay_id"], about["attempt"]
        told = None if reason is None else reason[: working.MAX_REASON_CHARS]
        try:
            try:
                return self._send(working.finish(replay_id, self.worker_name, attempt, outcome, told))
            except Conflict:
                if outcome != "ran":
                    raise
                # The function ran where it leaves no record: undecorated by now, or recording was turned off.
                why = f"it ran and left no record{f' ({told})' if told else ''}"
                return self._send(working.finish(replay_id, self.worker_name, attempt, "failed", why))
        except (Permanent, Retryable) as error:
            self._worker.say("untold", **about, reason=str(error))
            return None

    def _send(self, call: Call[Any]) -> Any:
        return self._grid._send(call)  # noqa: SLF001 - the requests of a worker are no methods of the public client


class _Child:
    """A process that has imported the module, and the line to it."""

    def __init__(self, settings: WorkerSettings) -> None:
        ours, theirs = socket.socketpair()
        self._line = Line(ours)
        self._socket = ours
        reach = {"LOOPGRID_ENDPOINT": settings.endpoint, "LOOPGRID_API_KEY": settings.api_key}
        command = [sys.executable, "-m", "loopgrid.runner", str(theirs.fileno()), settings.module]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves, with the module that the user names
                command,
                env={**settings.variables, **reach},
                stdin=subprocess.DEVNULL,
                # Standard output is the worker's.
                stdout=sys.stderr.fileno(),
                pass_fds=(theirs.fileno(),),
                # A session of its own: Ctrl-C is for the worker, and what it starts can be ended with it.
                start_new_session=True,
            )
        finally:
            theirs.close()
        self.functions: frozenset[str] = frozenset()
        self.modules: frozenset[str] = frozenset()
        self._gone = False
        self._killed = False

    @property
    def alive(self) -> bool:
        """Whether it can still answer."""
        return not self._gone and not self._killed and self._process.poll() is None

    def hello(self, over: threading.Event) -> Message | None:
        """What it says once it has imported the module; None where it never does or nobody waits."""
        while not over.is_set():
            said = self.answer(LOOK_S)
            if said is not None:
                self.functions = frozenset(said.get("functions", ()))
                self.modules = frozenset(said.get("modules", ()))
                return said
            if not self.alive:
                return None
        return None

    def begin(self, claimed: Mapping[str, Any]) -> None:
        """Give it a run."""
        replay = claimed["replay"]
        job = {
            "replay_id": replay["replay_id"],
            "decision_id": replay["decision_id"],
            "overrides": replay["overrides"],
            "run_as": claimed["run_as"],
            "decision": claimed["decision"],
        }
        self._socket.settimeout(None)
        try:
            self._line.send(job)
        except OSError:
            self._gone = True

    def answer(self, timeout_s: float) -> Message | None:
        """What it says within some seconds, or None; then it is perhaps not alive any more."""
        readable = _readable(self._socket, timeout_s)
        if not readable:
            return None
        self._socket.settimeout(None)
        said = self._line.receive()
        if said is None:
            self._gone = True
        return said

    def kill(self) -> None:
        """End it and what it started, at once."""
        if self._killed:
            return
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._line.close()
        self._process.wait()

    def end(self) -> None:
        """Let it end: its line is closed, so there is nothing more to run."""
        self._line.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def how_it_ended(self) -> str:
        """In words."""
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return "it let go of its line to the worker"
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"


def _readable(connection: socket.socket, timeout_s: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(timeout_s))
