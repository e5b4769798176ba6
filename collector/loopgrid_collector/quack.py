"""The door for other DuckDB processes: they attach the live ledger over DuckDB's quack protocol, to read.

Laws:

* Who comes in is whom the other doors let in: the token is an API key with the scope ``read``, and it is
  checked again at every statement, so that a revoked or expired key ends here too.
* What runs is what ``/v1/sql`` would take, and nothing else; no transaction either, because an open one would
  keep checkpoints waiting.
* It listens on this machine only: quack has no TLS of its own.

Hole: DuckDB gives no handle on a statement that came this way, so it has no time limit. DuckDB's memory
limit and its number of threads hold.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

from loopgrid_collector.audit import Access
from loopgrid_collector.auth import Key, Scope
from loopgrid_collector.errors import CollectorError, Forbidden, Unauthenticated
from loopgrid_collector.guard import Guard
from loopgrid_collector.ledger.quack import QuackPort, asked_when_attaching

MAX_SESSIONS: Final = 1_000
"""Sessions that are remembered; the oldest must attach again beyond that."""

Check = Callable[[str, Key | None], None]
"""Raises a ``Forbidden`` for a statement that a key may not run."""


class QuackDoor:
    """One port on which DuckDB processes attach. Safe to use from any thread."""

    def __init__(self, port: int) -> None:
        """Prepare; nothing is opened yet.

        Args:
            port: where it listens.
        """
        self.port = QuackPort(port, self._admit, self._allow)
        self._guard: Guard | None = None
        self._check: Check | None = None
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def open_to(self, guard: Guard, check: Check) -> None:
        """Let in whom a guard admits, for what the check takes. Before that everybody is refused."""
        self._check = check
        self._guard = guard

    def _admit(self, session: str, token: str) -> bool:
        try:
            self._key(token, "ATTACH")
        except CollectorError:
            return False
        with self._lock:
            self._sessions[session] = token
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return True

    def _allow(self, session: str, statement: str) -> bool:
        with self._lock:
            token = self._sessions.get(session)
        if token is None or self._guard is None or self._check is None:
            return False
        try:
            key = self._key(token, "QUERY")
            if asked_when_attaching(statement):
                return True
            self._check(statement, key)
        except Unauthenticated:
            return False
        except Forbidden as error:
            self._note(statement, token, 403, str(error))
            return False
        self._note(statement, token, 200, None)
        return True

    def _key(self, token: str, method: str) -> Key | None:
        if self._guard is None:
            raise Unauthenticated("The server is starting.")
        headers = {"authorization": f"Bearer {token}"}
        return self._guard.admit(headers.get, Scope.READ, Access("quack", method, "/quack", None))

    def _note(self, statement: str, token: str, status: int, reason: str | None) -> None:
        if self._guard is None or not self._guard.keys.required:
            return
        key = self._key(token, "QUERY")
        digest = hashlib.sha256(statement.encode("utf-8", "surrogatepass")).hexdigest()
        self._guard.audit.note(
            Access(
                "quack",
                "QUERY",
                "/quack",
                status,
                key_id=key.key_id if key else None,
                statement_sha256=digest,
                reason=reason,
            )
        )
