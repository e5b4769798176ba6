"""``loopgrid compare``: a decision, its replay and its correction, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import print_json, stdout
from loopgrid_query.cli.decisions import model_label, prompt_label
from loopgrid_query.cli.errors import NEGATIVE
from loopgrid_query.cli.gist import leaves, plain, whole
from loopgrid_query.compare import same

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
    decision_id: Annotated[str, typer.Argument(help="Id of the decision.")],
    replay_id: Annotated[str, typer.Argument(help="Id of one of its replays.")],
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show decision, replay and correction side by side.

    Exits 1 where the replay is still_wrong, newly_broken or not_comparable.
    """
    comparison = client(endpoint).compare(decision_id, replay_id)
    if as_json:
        print_json(comparison)
    else:
        out = stdout()
        out.print(render(comparison, out))
    if comparison["verdict"] in _NEGATIVE_VERDICTS:
        raise typer.Exit(NEGATIVE)


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
    failed = comparison["replay"]["status"] == "failed"
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
    for name in ("decision", "replay", "correction"):
        drawn.add_column(name, ratio=1, overflow="fold")
    for row in rows_of(comparison):
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
    return Group(drawn, said)


def _same(one: Any, other: Any) -> bool:
    return one is not _ABSENT and other is not _ABSENT and same(one, other)


def _cell(value: Any, truth: Any, *, differs: bool) -> Text:
    """Green where it says what the human says, red where not, yellow where only the replay moved."""
    if value is _ABSENT:
        return Text("")
    if value is _NO_END:
        return Text("(nothing ran to an end)", "dim")
    style = "yellow" if differs else ""
    if truth is not _ABSENT:
        style = "green" if _same(value, truth) else "red"
    return Text(whole(value) if value is not None else "null", style)
