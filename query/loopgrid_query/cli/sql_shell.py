"""``loopgrid sql`` without a query: a session in which a person asks, looks, and asks again.

Statements end with a semicolon, so that they may take several lines. Nothing is kept but the history of
what was typed, which only its owner may read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from loopgrid.errors import LoopGridError
from loopgrid_query.cli.console import stderr
from loopgrid_query.cli.errors import CliError

Run = Callable[[str], Mapping[str, Any]]
"""Asks the server: rows and columns of one statement."""
Show = Callable[[Mapping[str, Any], bool], None]
"""Prints them, one row below the other where the flag says so."""

HELP: Final = """\\d          the views            \\d VIEW     the columns of a view
\\x          one row below the other, on and off
\\?          this help            \\q          ends (or Ctrl-D)
A statement ends with a semicolon. Tab completes, up and down walk through what was asked before,
Ctrl-C leaves what is being typed."""

_KEYWORDS: Final = tuple(
    "select from where group by order having limit offset join left using on as and or not null is in "
    "between like ilike case when then else end distinct union all except with desc asc count sum avg min "
    "max median quantile_cont date_trunc json_extract json_extract_string qualify filter".split()
)
_VIEWS: Final = "SHOW TABLES"
_COLUMNS: Final = "DESCRIBE "


class Names:
    """The views and their columns, asked for once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._columns: dict[str, Mapping[str, str] | None] = {}

    @property
    def views(self) -> Iterable[str]:
        """The views that may be read.

        Raises:
            LoopGridError: the server does not tell; the next look asks again.
        """
        if not self._columns:
            self._columns = {row[0]: None for row in self._run(_VIEWS)["rows"]}
        return self._columns.keys()

    def columns(self, view: str) -> Mapping[str, str]:
        """Types of the columns of a view, by name; empty where there is no such view. Raises as ``views``."""
        if view not in self.views:
            return {}
        known = self._columns[view]
        if known is None:
            known = {row[0]: row[1] for row in self._run(_COLUMNS + view)["rows"]}
            self._columns[view] = known
        return known


class _Completer(Completer):
    """Views after FROM and JOIN, else what may stand there: first columns of views that the text names."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        begun = document.get_word_before_cursor()
        if not begun and not complete_event.completion_requested:
            return
        for word in self._candidates(document, begun):
            if word.lower().startswith(begun.lower()):
                yield Completion(word, start_position=-len(begun))

    def _candidates(self, document: Document, begun: str) -> Iterable[str]:
        try:
            return self._known(document, begun)
        except LoopGridError:
            return _KEYWORDS

    def _known(self, document: Document, begun: str) -> Iterable[str]:
        before = document.text_before_cursor[: len(document.text_before_cursor) - len(begun)].split()
        if before and before[-1].lower() in {"from", "join", "\\d"}:
            return self._names.views
        words = {word.strip("(),;").lower() for word in document.text.split()}
        here = [name for view in words & set(self._names.views) for name in self._names.columns(view)]
        return dict.fromkeys([*sorted(here), *self._names.views, *_KEYWORDS])


def shell(run: Run, show: Show, server: str) -> None:
    """Ask until the person leaves.

    Args:
        run: asks the server.
        show: prints an answer.
        server: the server's address, for the greeting.
    """
    names = Names(run)
    session: PromptSession[str] = PromptSession(
        "loopgrid> ",
        prompt_continuation="     ...> ",
        multiline=True,
        history=_history(),
        lexer=PygmentsLexer(SqlLexer),
        completer=_Completer(names),
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        key_bindings=_bindings(),
    )
    stderr().print(f"SQL over {server}, read-only. \\? helps, \\q ends.")
    sheets = False
    while True:
        try:
            text = session.prompt().strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text in {"\\q", "exit", "quit"}:
            return
        try:
            if text == "\\x":
                sheets = not sheets
                stderr().print(f"One row below the other: {'on' if sheets else 'off'}.")
            elif text.startswith("\\"):
                _tell(text, names, show)
            elif text.rstrip(";").strip():
                _ask(text.rstrip(";"), run, show, sheets=sheets)
        except (CliError, LoopGridError) as error:
            stderr().print(str(error))
        except KeyboardInterrupt:
            stderr().print("Left; the server ends the statement at its time limit.")


def _ask(query: str, run: Run, show: Show, *, sheets: bool) -> None:
    begun = time.monotonic()
    answer = run(query)
    taken_ms = (time.monotonic() - begun) * 1000
    show(answer, sheets)
    rows = len(answer["rows"])
    stderr().print(f"{rows:,} {'row' if rows == 1 else 'rows'}, {taken_ms:,.0f} ms")


def _tell(command: str, names: Names, show: Show) -> None:
    word, _, about = command.partition(" ")
    about = about.strip().rstrip(";")
    if word != "\\d":
        stderr().print(HELP)
    elif not about:
        show(_answer(("view",), [[view] for view in names.views]), False)
    elif found := names.columns(about):
        show(_answer(("column", "type"), [list(each) for each in found.items()]), False)
    else:
        raise CliError(f"there is no view {about!r}; \\d lists those that are")


def _answer(heads: Iterable[str], rows: list[list[str]]) -> Mapping[str, Any]:
    return {"columns": [{"name": name, "type": "VARCHAR"} for name in heads], "rows": rows}


def _bindings() -> KeyBindings:
    """Enter ends a statement that is complete, and goes to the next line of one that is not."""
    bindings = KeyBindings()

    @Condition
    def complete() -> bool:
        return _is_complete(get_app().current_buffer)

    @bindings.add("enter", filter=complete)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return bindings


def _is_complete(buffer: Buffer) -> bool:
    text = buffer.text.strip()
    return not text or text.startswith("\\") or text.endswith(";") or text in {"exit", "quit"}


def _history() -> History:
    """What was typed, kept between sessions where there is a place for it."""
    home = os.environ.get("XDG_STATE_HOME") or ""
    folder = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    path = folder / "loopgrid" / "sql_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
