"""Decoding in processes of its own: one interpreter decodes on one core, however many threads it has.

Guarantee: a question is answered whole, or :class:`Lost` is raised and the same question may be asked
again. A body that ends the process that decodes it (a fault in native code, no memory) costs that process
and nothing else.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Final

from loopgrid_collector import decode_wire
from loopgrid_collector.decoding import Kind
from loopgrid_collector.ledger.records import Append

ANSWER_TIMEOUT_S: Final = 60.0
"""Longer than the largest body takes on a busy machine; a process that is silent for so long is ended."""

CHANNEL_BYTES: Final = 4 * 2**20
"""Socket buffer asked for; the system may grant less."""

WORKER: Final = "loopgrid_collector.decode_worker"


class Lost(Exception):
    """The process ended, or went silent, before it answered."""


class DecodeProcess:
    """One decoding process. Used by one thread at a time."""

    def __init__(self) -> None:
        """Start it. Until its modules are loaded it is not ready."""
        self._channel, other = socket.socketpair()
        self._channel.settimeout(ANSWER_TIMEOUT_S)
        with other:
            for end in (self._channel, other):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_BYTES)
            self._process = subprocess.Popen(  # noqa: S603 — our own program, and a number
                # -P: what lies in the working folder is not ours to import.
                [sys.executable, "-P", "-m", WORKER, str(other.fileno())],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._ready = False
        self._closing = threading.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ready(self) -> bool:
        """Whether it would begin at once. Never waits.

        Raises:
            Lost: it ended before it was ready, and another one most likely would.
        """
        if not self._ready:
            readable, _, _ = select.select([self._channel], [], [], 0)
            self._ready = bool(readable)
            if self._ready and self._channel.recv(len(decode_wire.READY)) != decode_wire.READY:
                self.close()
                raise Lost
        return self._ready

    def append_of(self, kind: Kind, bodies: Sequence[bytes]) -> Append:
        """Decode bodies there.

        Raises:
            Undecodable: at least one of them is no request of its kind.
            Lost: the process is gone; start another.
        """
        try:
            decode_wire.ask(self._channel, kind, bodies)
            return decode_wire.answered(self._channel, kind, bodies)
        except OSError as error:
            self.close()
            raise Lost from error

    def close(self) -> None:
        """End it. What it was doing is lost."""
        with self._closing:
            self._channel.close()
            self._process.kill()
            self._process.wait()
