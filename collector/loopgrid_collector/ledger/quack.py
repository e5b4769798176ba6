"""DuckDB's own door: the port on which other DuckDB processes attach a ledger's handle (quack)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import duckdb

from loopgrid_collector.errors import Misconfigured
from loopgrid_collector.ledger.as_of_macros import macros
from loopgrid_collector.ledger.statements import QUERIES, VIEWS

ADMIT: Final = "loopgrid_quack_admit"
ALLOW: Final = "loopgrid_quack_allow"
_EXTENSIONS: Final = ("httpfs", "quack")


def _words(statement: str) -> str:
    """A statement without comment lines, and with single spaces."""
    lines = [line for line in statement.splitlines() if not line.startswith("--")]
    return " ".join(" ".join(lines).split()).rstrip(";")


_OF_CLIENTS: Final = frozenset(_words(QUERIES[name]) for name in ("quack_schemas", "quack_tables"))
"""What clients ask on their own when they attach."""


def asked_when_attaching(statement: str) -> bool:
    """Whether a statement is one of those that clients send on their own; they tell names of views only."""
    return _words(statement) in _OF_CLIENTS


class QuackPort:
    """One such port. It decides nothing: two functions say who may attach and what may run."""

    def __init__(
        self, port: int, admit: Callable[[str, str], bool], allow: Callable[[str, str], bool]
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            port: where it listens.
            admit: whether a session may begin with a token.
            allow: whether a session may run a statement.
        """
        self.address = f"quack:localhost:{port:d}"
        self._port = port
        self._admit = admit
        self._allow = allow

    def begin(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Listen, on a ledger that is being opened and not locked down yet.

        Raises:
            Misconfigured: an extension is not installed, or the port cannot be had.
        """
        for name in _EXTENSIONS:
            connection.load_extension(str(_extension(name)))
        connection.create_function(ADMIT, self._admits, ["VARCHAR"] * 3, "BOOLEAN", side_effects=True)
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

    def _admits(self, session: str, token: str, _: str) -> bool:
        # The third is the token of quack's own, which nobody has.
        return self._admit(session, token)

    def end(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Listen no more."""
        with suppress(duckdb.Error):
            connection.execute(QUERIES["quack_end"].format(address=self.address))


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
