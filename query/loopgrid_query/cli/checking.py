"""``loopgrid check``: replays held against the corrections and a rule, for a machine that says yes or no."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from loopgrid import LoopGrid
from loopgrid_query.cli import choosing
from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import print_json, stderr, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.experimenting import all_items
from loopgrid_query.cli.gist import plain
from loopgrid_query.cli.overrides import parse_overrides
from loopgrid_query.compare import equality as equalities
from loopgrid_query.errors import QueryError
from loopgrid_query.instants import FORM, as_stored, parse_instant
from loopgrid_query.report_models import GateReport, GateVerdict, Item

RuleText = Annotated[
    str,
    typer.Option(metavar="RULE", help="As in 'fixed >= 0.8 and newly_broken == 0'.", show_default=False),
]
ReplayIds = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Ids of the replays, one a line; - for standard input."),
]
ControlIds = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Ids of replays in which nothing was changed.")
]
ReplaysSince = Annotated[
    str | None,
    typer.Option(
        metavar="MOMENT",
        help="All replays since then, as 2026-03-01T00:00:00Z; those without overrides are the control arm.",
    ),
]
ExperimentGiven = Annotated[
    str | None, typer.Option(metavar="ID", help="An experiment's replays, with its control arm.")
]
EqualityRule = Annotated[
    str | None,
    typer.Option(metavar="RULE", help="When outputs count as equal, as in loopgrid compare."),
]
Policy = Annotated[
    str | None,
    typer.Option(help="Which correction is the ground truth: latest, majority or adjudicated."),
]
Title = Annotated[str | None, typer.Option(help="What the reports are headed with.")]
Junit = Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")]
MarkdownFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown for a pull request.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained page with charts.")]

_STYLES: Final = {"pass": "bold green", "fail": "bold red", "unknown": "bold yellow"}
_STANDARD_INPUT: Final = Path("-")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The replays of a check.

    Attributes:
        arm: ids of the replays with the change.
        control: ids of the replays with nothing changed; None where there is no control arm.
        title: what they are, in words.
        notes: what was left out, and why.
    """

    arm: Sequence[str]
    control: Sequence[str] | None
    title: str
    notes: Sequence[str] = ()


def check(
    rule: RuleText,
    replay_ids: ReplayIds = None,
    control_ids: ControlIds = None,
    replays_since: ReplaysSince = None,
    experiment: ExperimentGiven = None,
    override: choosing.Override = None,
    cohort: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --override: the decisions of this cohort.")
    ] = None,
    corrected_since: choosing.CorrectedSince = None,
    filters: choosing.Filters = None,
    uncorrected_sample: choosing.UncorrectedSample = None,
    control_share: choosing.ControlShare = None,
    concurrency: choosing.Concurrency = 8,
    budget_calls: choosing.BudgetCalls = None,
    budget_tokens: choosing.BudgetTokens = None,
    budget_usd: choosing.BudgetUsd = None,
    app: choosing.App = None,
    equality: EqualityRule = None,
    policy: Policy = None,
    title: Title = None,
    junit: Junit = None,
    markdown: MarkdownFile = None,
    html: Html = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Hold a change against what people said is right, and a rule.

    With --override and --corrected-since (or --cohort) the decisions are replayed first, with the change and
    once more unchanged: an experiment. Or name replays that have run: --experiment, --replay-ids or
    --replays-since.

    Exits 0 where the rule holds, 1 where it does not or where nobody can say, 2 where the check could
    not be made. What failed counts against the change, and never leaves a denominator.
    """
    from loopgrid_query.replay import gate
    from loopgrid_query.reports import gate_junit, gate_markdown, gate_page

    with _explained():
        parsed = gate.parse(rule)
        asked = equalities.parse(equality)
        grid = client(endpoint)
        found = choosing.chosen(filters, corrected_since, uncorrected_sample)
        _check_one_way(cohort or found or override, experiment, replay_ids, replays_since)
        if cohort or found or override:
            asked_for: dict[str, Any] = {
                "cohort": cohort,
                "decisions": found or None,
                "overrides": parse_overrides(override or []),
                "name": title,
                "control_share": control_share,
                "concurrency": concurrency,
                "budget": choosing.budget(budget_calls, budget_tokens, budget_usd),
                "policy": policy,
                "equality": equality,
            }
            with choosing.worker_beside(app, concurrency, endpoint):
                experiment = choosing.waited(grid, grid.create_experiment(**asked_for)).experiment_id
        if experiment is not None:
            report = _report_of(grid, experiment, title)
        else:
            chosen = _chosen(grid, replay_ids, control_ids, replays_since)
            report = _report(grid, chosen, asked, policy, title)
        report.gate = gate.evaluate(parsed, report.statistics)
    written = ((junit, gate_junit.junit), (markdown, gate_markdown.markdown), (html, gate_page.page))
    for file, writes in written:
        if file is not None:
            _write(file, writes(report))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        _print(report)
    if report.gate.verdict is not GateVerdict.PASS:
        raise typer.Exit(NEGATIVE)


def _check_one_way(*ways: object) -> None:
    if sum(bool(way) for way in ways) != 1:
        raise CliError(
            "say which replays, in one way: --override with --corrected-since or --cohort, --experiment, "
            "--replay-ids or --replays-since."
        )


def _report_of(grid: LoopGrid, experiment_id: str, title: str | None) -> GateReport:
    """The report of an experiment, by what people say is right now."""
    from loopgrid_query.replay.statistics import statistics

    experiment = grid.get_experiment(experiment_id)
    arms: dict[str, list[Item]] = {"change": [], "control": []}
    for item in all_items(grid, experiment_id):
        arms[item["arm"]].append(Item.model_validate(item))
    found = statistics(arms["change"], arms["control"] or None)
    if experiment.status != "completed":
        why = f" ({experiment.reason})" if experiment.reason else ""
        found.notes.append(f"The experiment is {experiment.status}{why}: what has not run is not comparable.")
    return GateReport(
        title=title or experiment.name or f"experiment {experiment_id}",
        overrides=experiment.overrides,
        equality=experiment.equality,
        gate=None,
        statistics=found,
        items=arms["change"],
        control=arms["control"] or None,
    )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except QueryError as error:
        raise CliError(str(error)) from error


def _chosen(grid: LoopGrid, replay_ids: Path | None, control_ids: Path | None, since: str | None) -> Chosen:
    if since is not None:
        if control_ids is not None:
            raise CliError(
                "--control-ids goes with --replay-ids; --replays-since finds the control arm itself."
            )
        return _since(grid, since)
    assert replay_ids is not None  # noqa: S101 - one of the two is given
    if replay_ids == control_ids == _STANDARD_INPUT:
        raise CliError("standard input holds one list: give a file for --replay-ids or --control-ids.")
    control = None if control_ids is None else _read(control_ids)
    return Chosen(_read(replay_ids), control, f"replays of {replay_ids}")


def _read(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if file == _STANDARD_INPUT else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {file}: {error}; check the path.") from error
    ids = [line.strip() for line in text.splitlines()]
    ids = list(dict.fromkeys(line for line in ids if line and not line.startswith("#")))
    if not ids:
        raise CliError(f"{file} names no replay; write one id a line.")
    return ids


def _since(grid: LoopGrid, since: str) -> Chosen:
    """The newest replay of each decision, and the newest with no overrides.

    Raises:
        CliError: there is none, or they change different things.
    """
    from loopgrid_query.queries import load_queries

    try:
        moment = as_stored(parse_instant(since))
    except ValueError as error:
        raise CliError(f"--replays-since {since!r} is no moment; write {FORM}.") from error
    found = grid.sql(load_queries()["replays_since"].sql, {"since": moment.isoformat()})
    if found["truncated"]:
        raise CliError(f"more replays since {since} than one answer holds; name them with --replay-ids.")
    arms: dict[str, dict[str, str]] = {}
    for replay_id, decision_id, overrides in found["rows"]:
        changed = json.loads(overrides) if isinstance(overrides, str) else overrides
        arms.setdefault(json.dumps(changed or {}, sort_keys=True), {})[decision_id] = replay_id
    counted = len(found["rows"])
    control = arms.pop("{}", None)
    if not arms:
        raise CliError(f"no replay with overrides since {since}; run some, or name another moment.")
    if len(arms) > 1:
        shown = "; ".join(f"{len(arm)} × {changes}" for changes, arm in sorted(arms.items()))
        raise CliError(
            f"the replays since {since} change different things; name one set with --replay-ids: {shown}"
        )
    (arm,) = arms.values()
    older = counted - len(arm) - len(control or {})
    notes = [f"{older} older replays of the same decisions are left out."] if older else []
    return Chosen(
        list(arm.values()),
        None if control is None else list(control.values()),
        f"replays since {since}",
        notes,
    )


def _report(
    grid: LoopGrid, chosen: Chosen, asked: equalities.Equality, policy: str | None, title: str | None
) -> GateReport:
    from loopgrid_query.cli.held import held
    from loopgrid_query.replay.statistics import statistics

    control = None
    with _progress(len(chosen.arm) + len(chosen.control or ())) as done:
        arm = held(grid, chosen.arm, asked, policy, done)
        if chosen.control is not None:
            control = held(grid, chosen.control, asked, policy, done).items
    found = statistics(arm.items, control)
    found.notes.extend(chosen.notes)
    if len(arm.changes) > 1:
        found.notes.append(f"The replays change {len(arm.changes)} different things.")
    return GateReport(
        title=title or chosen.title,
        overrides=json.loads(arm.changes.pop()) if len(arm.changes) == 1 else None,
        equality=asked.written(),
        gate=None,
        statistics=found,
        items=arm.items,
        control=control,
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; what it gives is told how many more are done."""
    console = stderr()
    with Progress(
        TextColumn("comparing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        bar = progress.add_task("comparing", total=total)
        yield lambda count: progress.advance(bar, count)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"cannot write {file}: {error.strerror}.") from error


def _print(report: GateReport) -> None:
    out = stdout()
    found, gate = report.statistics, report.gate
    if gate is None:
        return
    for clause in gate.clauses:
        line = Text(f"{clause.verdict.value:<8}", _STYLES[clause.verdict]).append(plain(clause.text), "bold")
        out.print(line.append(f": {plain(clause.why, one_line=True)}", "not bold"), soft_wrap=True)
    counts = [f"{share.count} {name.replace('_', ' ')}" for name, share in found.outcomes if share.count]
    out.print(f"{found.counted.items} decisions: {', '.join(counts) or 'none'}", soft_wrap=True)
    said = found.conclusion.verdict.replace("_", " ")
    out.print(Text(f"{said}: ", "bold").append(found.conclusion.why, "not bold"), soft_wrap=True)
    for note in found.notes:
        out.print(Text(note, "yellow"), soft_wrap=True)
    out.print(Text("gate: ").append(gate.verdict.value, _STYLES[gate.verdict]))
