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
import importlib.util
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

import duckdb

from loopgrid_collector.audit import Access
from loopgrid_collector.auth import Key, Scope
from loopgrid_collector.errors import CollectorError, Forbidden, Misconfigured, Unauthenticated
from loopgrid_collector.guard import Guard
from loopgrid_collector.ledger.as_of_macros import macros
from loopgrid_collector.ledger.statements import QUERIES, VIEWS

ADMIT: Final = "loopgrid_quack_admit"
ALLOW: Final = "loopgrid_quack_allow"
MAX_SESSIONS: Final = 1_000
"""Sessions that are remembered; the oldest must attach again beyond that."""

Check = Callable[[str, Key | None], None]
"""Raises a ``Forbidden`` for a statement that a key may not run."""

_EXTENSIONS: Final = ("httpfs", "quack")


def _words(statement: str) -> str:
    """A statement without comment lines, and with single spaces."""
    lines = [line for line in statement.splitlines() if not line.startswith("--")]
    return " ".join(" ".join(lines).split()).rstrip(";")


_OF_CLIENTS: Final = frozenset(_words(QUERIES[name]) for name in ("quack_schemas", "quack_tables"))
"""What clients ask on their own when they attach."""


class QuackDoor:
    """One port on which DuckDB processes attach. Safe to use from any thread."""

    def __init__(self, port: int) -> None:
        """Prepare; nothing is opened yet.

        Args:
            port: where it listens.
        """
        self.address = f"quack:localhost:{port:d}"
        self._port = port
        self._guard: Guard | None = None
        self._check: Check | None = None
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def open_to(self, guard: Guard, check: Check) -> None:
        """Let in whom a guard admits, for what the check takes. Before that everybody is refused."""
        self._check = check
        self._guard = guard

    def begin(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Listen, on a ledger that is being opened and not locked down yet.

        Raises:
            Misconfigured: an extension is not installed, or the port cannot be had.
        """
        for name in _EXTENSIONS:
            connection.load_extension(str(_extension(name)))
        connection.create_function(ADMIT, self._admit, ["VARCHAR"] * 3, "BOOLEAN", side_effects=True)
        connection.create_function(ALLOW, self._allow, ["VARCHAR"] * 2, "BOOLEAN", side_effects=True)
        for (view,) in connection.execute(QUERIES["quack_views"]).fetchall():
            connection.execute(QUERIES["quack_view"].format(view=view))
        past = macros(VIEWS).replace(" store.", " ledger.store.").replace("MACRO main.", "MACRO memory.main.")
        connection.execute(past)
        try:
            connection.execute(QUERIES["quack_begin"].format(admit=ADMIT, allow=ALLOW, address=self.address))
        except duckdb.Error as error:
            raise Misconfigured(
                f"--quack-port {self._port} cannot be used ({str(error).splitlines()[0]}); choose another."
            ) from error

    def end(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Listen no more."""
        with suppress(duckdb.Error):
            connection.execute(QUERIES["quack_end"].format(address=self.address))

    def _admit(self, session: str, token: str, _: str) -> bool:
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
            if _words(statement) in _OF_CLIENTS:
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


def _extension(name: str) -> Path:
    """Where the package of an extension keeps it.

    Raises:
        Misconfigured: it is not installed.
    """
    package = importlib.util.find_spec(f"duckdb_extension_{name}")
    version = f"v{duckdb.__version__}"
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder) / "extensions" / version / f"{name}.duckdb_extension"
        if file.is_file():
            return file
    raise Misconfigured(
        f"--quack needs DuckDB's extension {name} of version {version}; install LoopGrid with the "
        "extra quack."
    )
