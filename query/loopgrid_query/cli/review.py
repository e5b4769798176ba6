"""``loopgrid review``: a person works through a queue, one key at a time."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from loopgrid_query.cli.connection import Connection, Endpoint
from loopgrid_query.cli.console import stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.gist import plain
from loopgrid_query.cli.keyboard import Keyboard
from loopgrid_query.cli.review_page import difference, editable, edited, page
from loopgrid_query.cli.reviews import AsReviewer, Queue, found, path_of

_KEYS: Final = "[c]orrect  [i]ncorrect  [e]dit output  [o]ne-line edit  [s]kip  [m]ore  [q]uit"
_CONFIRM: Final = "[Enter] submit  [u]ndo"
_ENTER: Final = frozenset("\r\n")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer is about to say.

    Attributes:
        fields: the request's own, without decision and reviewer.
        step: the step of the queue's address that takes it.
        words: the same for the reviewer to read.
    """

    fields: Mapping[str, Any]
    step: str
    words: Text


class _Ends(Exception):
    """The reviewer has had enough for now."""


def review(
    queue: Queue,
    reviewer: AsReviewer = None,
    endpoint: Endpoint = None,
) -> int:
    """Work through a review queue in the terminal: one decision at a time, one key an answer.

    Nothing is sent before Enter. Quit at any time and start again: it goes on where you left off. The exit
    code is 1 if decisions of the queue still wait for answers.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CliError("loopgrid review asks a person and needs a terminal; programs use POST /v1/reviews.")
    with Connection(endpoint) as connection:
        named = found(connection, queue)
        with Keyboard() as keyboard:
            desk = Desk(connection, stdout(), keyboard, named["review_id"], named["name"], reviewer)
            return desk.work()


class Desk:
    """One reviewer's session with one queue."""

    def __init__(
        self,
        connection: Connection,
        out: Console,
        keyboard: Keyboard,
        review_id: str,
        name: str,
        reviewer: str | None,
    ) -> None:
        self._connection = connection
        self._keyboard = keyboard
        self._out = out
        self._review_id = review_id
        self._name = plain(name, one_line=True)
        self._who = {} if reviewer is None else {"reviewer": reviewer}

    def work(self) -> int:
        """Decision after decision, until none is left or the reviewer quits; the exit code."""
        while True:
            claimed = self._post("claim", {})
            if claimed["decision_id"] is None:
                return self._nothing_left(claimed)
            try:
                self._one(claimed)
            except (_Ends, EOFError, KeyboardInterrupt):
                # What is given back can be taken by others at once, and by the same reviewer again.
                self._post("release", {"decision_id": claimed["decision_id"]})
                answered = claimed["progress"]["answered"]
                self._say(f"You have answered {answered}. The rest waits: loopgrid review {self._review_id}")
                return 1

    def _one(self, claimed: Mapping[str, Any]) -> None:
        """Show a decision until the reviewer has said something about it, and send that."""
        decision = claimed["decision"]
        self._show(claimed)
        while True:
            verdict = self._verdict(decision)
            if verdict is None:
                self._show(claimed)
                continue
            self._out.print(verdict.words)
            if self._confirmed():
                self._send(verdict, claimed["decision_id"])
                return
            self._show(claimed)

    def _show(self, claimed: Mapping[str, Any], *, whole_of_it: bool = False) -> None:
        self._out.clear()
        progress = claimed["progress"]
        left = progress["open"]
        self._out.rule(Text(f"{self._name}: {progress['answered']} answered, {left} to go", style="bold"))
        self._out.print(page(claimed["decision"], whole_of_it=whole_of_it))
        self._out.print(Text(_KEYS, style="dim"))

    def _verdict(self, decision: Mapping[str, Any]) -> Verdict | None:
        """What the next key leads to; None where the reviewer thought better of it."""
        while True:
            key = self._key()
            if key == "c":
                return Verdict({"verdict": "correct"}, "answers", Text("correct", style="green"))
            if key == "i":
                return self._incorrect()
            if key in {"e", "o"}:
                return self._edited(decision.get("output"), in_line=key == "o")
            if key == "s":
                return self._skipped()
            if key == "m":
                self._out.print(page(decision, whole_of_it=True))
                self._out.print(Text(_KEYS, style="dim"))
            elif key == "q":
                raise _Ends
            else:
                self._out.print(Text(_KEYS, style="dim"))

    def _incorrect(self) -> Verdict | None:
        self._say("What is wrong? (an empty line takes it back)")
        reason = self._line("reason: ")
        if reason is None:
            return None
        fields = {"verdict": "incorrect", "reason": reason}
        for name in ("category", "severity"):
            text = self._line(f"{name} (may stay empty): ")
            if text is not None:
                fields[name] = text
        told = ", ".join(f"{name}: {plain(text, one_line=True)}" for name, text in list(fields.items())[1:])
        return Verdict(fields, "answers", Text(f"incorrect; {told}", style="red"))

    def _skipped(self) -> Verdict | None:
        self._say("Why do you skip it? (an empty line takes it back)")
        reason = self._line("reason: ")
        if reason is None:
            return None
        return Verdict({"reason": reason}, "skip", Text(f"skip; reason: {plain(reason, one_line=True)}"))

    def _edited(self, output: Any, *, in_line: bool) -> Verdict | None:
        text = editable(output)
        while True:
            written = self._typed_over(output) if in_line else self._in_editor(text, output)
            if written is None:
                return None
            try:
                right = edited(written, output)
                break
            except ValueError as error:
                text = written
                self._say(f"That is not JSON ({error}). [e] edit again  [u]ndo")
                in_line = False
                if self._key_of("eu") == "u":
                    return None
        if right == output and json.dumps(right) == json.dumps(output):
            self._say("The output is as it was. Press any key.")
            self._key()
            return None
        words = Text("corrected:\n", style="yellow").append_text(difference(output, right))
        return Verdict({"verdict": "corrected", "output": right}, "answers", words)

    def _confirmed(self) -> bool:
        self._out.print(Text(_CONFIRM, style="bold"))
        return self._key_of("\r\nu") in _ENTER

    def _send(self, verdict: Verdict, decision_id: str) -> None:
        answer = self._ask(verdict.step, {"decision_id": decision_id, **verdict.fields})
        if answer["status"] == HTTPStatus.CONFLICT:
            self._say(f"{answer['body']['detail']} Press any key.")
            self._key()
        elif answer["status"] >= HTTPStatus.BAD_REQUEST:
            raise CliError(str(answer["body"].get("detail", answer["status"])))

    def _nothing_left(self, claimed: Mapping[str, Any]) -> int:
        progress = claimed["progress"]
        self._say(
            f"Nothing is left for {claimed['reviewer']}: {progress['answered']} answered, "
            f"{progress['skipped']} skipped."
        )
        if claimed["waiting"]:
            self._say(
                f"{claimed['waiting']} are with other reviewers and may come back; look in again later."
            )
        whole = self._connection.json("GET", path_of(self._review_id))
        return 1 if whole["status"] == "open" and whole["progress"]["remaining"] else 0

    def _post(self, step: str, fields: Mapping[str, Any]) -> Any:
        return self._connection.json("POST", f"{path_of(self._review_id)}/{step}", {**fields, **self._who})

    def _ask(self, step: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps({**fields, **self._who}).encode()
        answer = self._connection.post(
            f"{path_of(self._review_id)}/{step}", body, content_type="application/json"
        )
        try:
            return {"status": answer.status, "body": json.loads(answer.body)}
        except ValueError as error:
            raise CliError(
                f"the server answered HTTP {answer.status} and no JSON; is that the API port?"
            ) from error

    def _key(self) -> str:
        return self._keyboard.key()

    def _key_of(self, keys: str) -> str:
        while True:
            key = self._key()
            if key and key in keys:
                return key

    def _line(self, ask: str) -> str | None:
        """A line that the reviewer types; None where nothing stands in it."""
        import readline  # noqa: F401 - with it, a line can be edited

        with self._keyboard.lines():
            return input(ask).strip() or None

    def _typed_over(self, output: Any) -> str | None:
        """The output on one line, to be changed there."""
        import readline

        is_text = isinstance(output, str)
        line = output if is_text else json.dumps(output, ensure_ascii=False)
        if plain(line, one_line=is_text) != line:
            if is_text:
                self._say("One line cannot show it: use e. Press any key.")
                self._key()
                return None
            line = json.dumps(output)
        readline.set_startup_hook(lambda: readline.insert_text(line))
        try:
            return self._line("output: " if is_text else "output (JSON): ")
        finally:
            readline.set_startup_hook(None)

    def _in_editor(self, text: str, output: Any) -> str | None:
        with self._keyboard.lines():
            return _in_editor(text, is_text=isinstance(output, str))

    def _say(self, text: str) -> None:
        self._out.print(plain(text, one_line=True))


def _in_editor(text: str, *, is_text: bool) -> str | None:
    """The text as the reviewer's editor leaves it.

    Raises:
        CliError: there is no editor, or it failed; nothing was sent.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="loopgrid-review-") as folder:
        file = Path(folder) / ("output.txt" if is_text else "output.json")
        file.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(editor), str(file)], check=False)  # noqa: S603 - the reviewer's own editor
        except OSError as error:
            raise CliError(f"cannot start the editor {editor!r} ({error}); set EDITOR to another.") from error
        if done.returncode != 0:
            return None
        return file.read_text(encoding="utf-8")
