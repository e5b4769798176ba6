"""``loopgrid compare``: a decision, its replay or another decision, and the correction, side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from loopgrid.loading import load
from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import print_json, stdout
from loopgrid_query.cli.decisions import model_label, prompt_label
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.gist import leaves, plain, whole
from loopgrid_query.compare import same
from loopgrid_query.reports.comparison import page

MAX_CELL_CHARS: Final = 400
"""Characters of one value in the table; ``--json`` and ``--html`` show all of it."""
MAX_ROWS: Final = 12
"""Lines of the table."""
MAX_DIFF_LINES: Final = 8
"""Lines of a text difference."""
MAX_PLACES: Final = 5
"""Tool calls, or places in their arguments, that are named."""

_ABSENT: Final = object()
_NO_END: Final = object()
"""In place of a replay's output where the replay failed."""
_VERDICT_STYLES: Final = {
    "fixed": "bold green",
    "still_wrong": "bold red",
    "newly_broken": "bold red",
    "changed": "bold yellow",
    "unchanged": "bold",
    "not_comparable": "bold yellow",
}
_NEGATIVE_VERDICTS: Final = frozenset({"still_wrong", "newly_broken", "not_comparable"})


def compare(
    left: Annotated[str, typer.Argument(help="Id of a decision; or of a replay, alone.")],
    right: Annotated[
        str | None, typer.Argument(help="Id of one of its replays, or of another decision.")
    ] = None,
    equality: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="When outputs count as equal: exact, normalised, or JSON with text, ignore_case, "
            "fields, absolute, relative.",
        ),
    ] = None,
    equal: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="A function of yours that is given two outputs."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="Which correction is the ground truth: latest, majority or adjudicated."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all of it as one self-contained page.")
    ] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show decision, replay and correction side by side, or two decisions.

    Exits 1 where the right side is still_wrong, newly_broken or not_comparable.
    """
    function = None if equal is None else function_of(equal)
    comparison = client(endpoint).compare(left, right, equality=equality, policy=policy, equal=function)
    if html is not None:
        _write(html, page(comparison))
    if as_json:
        print_json(comparison)
    else:
        out = stdout()
        out.print(render(comparison, out))
    if comparison["verdict"] in _NEGATIVE_VERDICTS:
        raise typer.Exit(NEGATIVE)


def function_of(named: str) -> Callable[[Any, Any], bool]:
    """The function ``module:name`` as an equality; what it raises becomes a sentence.

    Raises:
        CliError: there is none.
    """
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise CliError(f"--equal {named!r} names no function; write MODULE:FUNCTION.")
    load(module)
    function: Any = sys.modules[module]
    for step in name.split("."):
        function = getattr(function, step, None)
    if not callable(function):
        raise CliError(f"{module!r} has no function {name!r}.")

    def equal(one: Any, other: Any) -> bool:
        try:
            answer: bool = function(one, other)
        except Exception as error:
            # The user's function may raise anything; whatever it is, it becomes a sentence.
            raise CliError(f"{named} raised {type(error).__name__}: {error}.") from error
        return answer

    equal.__module__, equal.__qualname__ = module, name
    return equal


def _write(file: Path, shown: str) -> None:
    try:
        file.write_text(shown, encoding="utf-8")
    except OSError as error:
        raise CliError(f"cannot write {file}: {error.strerror}.") from error


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison. `_ABSENT` cells are empty."""

    name: str
    decision: Any = _ABSENT
    replay: Any = _ABSENT
    correction: Any = _ABSENT

    @property
    def differs(self) -> bool:
        """The replay says something else than the decision."""
        return self.replay not in (_ABSENT, _NO_END) and not _same(self.replay, self.decision)


def rows_of(comparison: Mapping[str, Any]) -> list[Row]:
    """The lines worth reading: prompt, model, overridden input, and each leaf of the output."""
    decision, result = comparison["decision"], comparison.get("result")
    truth = comparison.get("ground_truth")
    rows = [
        Row(name, label(decision.get(name)), label(result.get(name)) if result else _ABSENT)
        for name, label in (("prompt", prompt_label), ("model", model_label))
    ]
    rows = [row for row in rows if row.decision or row.replay not in (_ABSENT, "")]
    if result:
        given = [leaves(each.get("input"), "input") for each in (decision, result)]
        inputs = (Row(name, *(side.get(name, _ABSENT) for side in given)) for name in given[0] | given[1])
        rows += [row for row in inputs if not _same(row.decision, row.replay)]
    failed = (comparison["replay"] or {}).get("status") == "failed"
    columns = [
        leaves(decision.get("output"), "output"),
        leaves(result.get("output"), "output") if result and not failed else {},
        leaves(truth.get("output"), "output") if truth else {},
    ]
    names = list(dict.fromkeys(name for column in columns for name in column))
    if failed:
        columns[1] = {names[0]: _NO_END}
    return rows + [Row(name, *(column.get(name, _ABSENT) for column in columns)) for name in names]


def render(comparison: Mapping[str, Any], console: Console) -> Group:
    """The comparison as a table and its verdict, for this console's width."""
    drawn = Table(box=box.ROUNDED, show_lines=True, width=min(console.width, 120))
    drawn.add_column("", width=1)
    drawn.add_column("", no_wrap=True, style="bold")
    other = "replay" if comparison["replay"] is not None else "other decision"
    for name in ("decision", other, "correction"):
        drawn.add_column(name, ratio=1, overflow="fold")
    rows = rows_of(comparison)
    if len(rows) > MAX_ROWS:
        # What differs is what one came for.
        rows.sort(key=lambda row: not (row.differs or _off(row)))
    for row in rows[:MAX_ROWS]:
        about_output = row.name.partition(".")[0] == "output"
        truth = row.correction if about_output else _ABSENT
        drawn.add_row(
            "≠" if row.differs else "",
            plain(row.name),
            _cell(row.decision, truth, differs=False),
            _cell(row.replay, truth, differs=row.differs),
            _cell(row.correction, truth, differs=False),
        )
    verdict = comparison["verdict"]
    said = Text("verdict: ").append(verdict, _VERDICT_STYLES.get(verdict, "bold"))
    if comparison.get("why"):
        said.append(f" ({plain(str(comparison['why']), one_line=True).rstrip('.')})")
    more = len(rows) - MAX_ROWS
    rest = [Text(f"{more} more lines; --json or --html shows all", "dim")] if more > 0 else []
    return Group(drawn, *rest, *_beside(comparison), said)


def _beside(comparison: Mapping[str, Any]) -> Iterator[Text]:
    """What else differs, a line each: prompt, messages, tool calls, measures, and what was not compared."""
    prompt = comparison.get("prompt_diff") or {}
    for title, name in (("prompt template", "template"), ("prompt as sent", "rendered")):
        if prompt.get(name) is not None:
            yield from _diff_lines(title, prompt[name])
            break
    for title, name in (("messages", "message_diff"), ("tool calls", "tool_call_diff")):
        aligned = comparison.get(name) or {}
        counts = [f"{len(aligned[op])} {op}" for op in ("removed", "added", "changed") if aligned.get(op)]
        if counts:
            yield Text(f"{title}: ", "bold").append(", ".join(counts) + _calls_named(aligned), "not bold")
    measures = [
        f"{name} {_number(measure['left'])} → {_number(measure['right'])}"
        for name, measure in (comparison.get("measures") or {}).items()
        if measure["left"] is not None or measure["right"] is not None
    ]
    if measures:
        yield Text(" · ".join(measures))
    yield from (Text(plain(note, one_line=True), "yellow") for note in comparison.get("notes") or ())


def _diff_lines(title: str, unified: str) -> Iterator[Text]:
    lines = [line for line in unified.split("\n") if not line.startswith(("---", "+++", "@@"))]
    yield Text(f"{title}:", "bold")
    for line in lines[:MAX_DIFF_LINES]:
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        yield Text("  " + _cut(plain(line, one_line=True)), style)
    if len(lines) > MAX_DIFF_LINES:
        yield Text(f"  {len(lines) - MAX_DIFF_LINES} more lines; --json or --html shows all", "dim")


def _calls_named(aligned: Mapping[str, Any]) -> str:
    """The tool calls by name, with what changed in their arguments; nothing for messages."""
    named = []
    for op, sign in (("removed", "-"), ("added", "+"), ("changed", "")):
        for call in aligned[op]:
            if "name" in call:
                places = call["arguments"][:MAX_PLACES] if op == "changed" else []
                named.append(sign + str(call["name"]) + "".join(f" {place['path']}" for place in places))
    if not named:
        return ""
    more = f" and {len(named) - MAX_PLACES} more" if len(named) > MAX_PLACES else ""
    return _cut(plain(f" ({', '.join(named[:MAX_PLACES])}{more})"))


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:,.6g}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CELL_CHARS else f"{text[:MAX_CELL_CHARS]}…"


def _same(one: Any, other: Any) -> bool:
    return one is not _ABSENT and other is not _ABSENT and same(one, other)


def _off(row: Row) -> bool:
    """The correction says something else than the decision."""
    return row.correction is not _ABSENT and not _same(row.decision, row.correction)


def _cell(value: Any, truth: Any, *, differs: bool) -> Text:
    """Green where it says what the human says, red where not, yellow where only the replay moved."""
    if value is _ABSENT:
        return Text("")
    if value is _NO_END:
        return Text("(nothing ran to an end)", "dim")
    style = "yellow" if differs else ""
    if truth is not _ABSENT:
        style = "green" if _same(value, truth) else "red"
    return Text(_cut(whole(value)) if value is not None else "null", style)
