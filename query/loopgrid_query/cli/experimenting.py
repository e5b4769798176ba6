"""``loopgrid experiment``: many replays of a cohort under one change, with a control arm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from loopgrid import LoopGrid
from loopgrid.experiment_results import ExperimentRecord
from loopgrid_query.cli import choosing
from loopgrid_query.cli.connection import AsJson, Endpoint, client, example
from loopgrid_query.cli.console import Column, print_json, print_sheet, print_table, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.overrides import parse_overrides

app = typer.Typer(
    help="Replay many decisions under one change, with a control arm.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ExperimentId = Annotated[str, typer.Argument(help="Id of the experiment.")]
Cohort = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name, name@version or id of a cohort, instead of filters.")
]
_EXAMPLE_ID: Final = "exp_8c2d3f405b6e47a19d0e1f2a3b4c5d6e"
_COLUMNS: Final = (
    Column("name", least=12),
    Column("status", least=9),
    Column("items", least=6, right=True),
    Column("completed", least=9, right=True),
    Column("failed", least=6, right=True),
    Column("began", least=20),
    Column("experiment_id", least=36, whole=True),
)
_ITEMS: Final = (
    Column("outcome", least=12),
    Column("arm", least=7),
    Column("why", least=20),
    Column("decision_id", least=49, whole=True),
)


@app.command(
    epilog=example("loopgrid experiment run --cohort refunds --override prompt.version=2", "--budget-usd 5")
)
def run(
    cohort: Cohort = None,
    filters: choosing.Filters = None,
    corrected_since: choosing.CorrectedSince = None,
    uncorrected_sample: choosing.UncorrectedSample = None,
    size: choosing.Size = None,
    random: choosing.Random = False,
    seed: choosing.Seed = None,
    override: choosing.Override = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    executor: Annotated[
        str | None, typer.Option(help="function or model; chosen for each decision if left out.")
    ] = None,
    control_share: choosing.ControlShare = None,
    concurrency: choosing.Concurrency = 8,
    budget_calls: choosing.BudgetCalls = None,
    budget_tokens: choosing.BudgetTokens = None,
    budget_usd: choosing.BudgetUsd = None,
    policy: Annotated[
        str | None, typer.Option(help="Whose word is the ground truth: latest, majority or adjudicated.")
    ] = None,
    equality: Annotated[
        str | None, typer.Option(metavar="RULE", help="When outputs count as equal, as in loopgrid compare.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who begins it.")] = None,
    worker: choosing.App = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")] = True,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Replay decisions with the overrides, and once more unchanged; show what came of it.

    It runs on the server, and goes on there if this command is stopped. Exits 1 where it stopped before its
    end.
    """
    found = choosing.chosen(filters, corrected_since, uncorrected_sample, size, seed, random=random)
    if (cohort is None) == (not found):
        raise CliError("say which decisions: either --cohort, or --filter or --corrected-since.")
    if worker is not None and not wait:
        raise CliError("--app runs a worker while this command waits; leave --no-wait out.")
    grid = client(endpoint)
    with choosing.worker_beside(worker, concurrency, endpoint):
        experiment = grid.create_experiment(
            cohort=cohort,
            decisions=None if cohort is not None else found,
            overrides=parse_overrides(override or []),
            name=name,
            executor=executor,
            control_share=control_share,
            concurrency=concurrency,
            budget=choosing.budget(budget_calls, budget_tokens, budget_usd),
            policy=policy,
            equality=equality,
            created_by=by,
        )
        if wait:
            experiment = choosing.waited(grid, experiment)
    _end(grid, experiment, as_json=as_json)


@app.command(
    epilog=example("loopgrid experiment estimate --corrected-since 7d", "--override model.name=gpt-5")
)
def estimate(
    cohort: Cohort = None,
    filters: choosing.Filters = None,
    corrected_since: choosing.CorrectedSince = None,
    uncorrected_sample: choosing.UncorrectedSample = None,
    size: choosing.Size = None,
    random: choosing.Random = False,
    seed: choosing.Seed = None,
    override: choosing.Override = None,
    control_share: choosing.ControlShare = None,
    concurrency: choosing.Concurrency = 8,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Say what an experiment would need: calls, tokens, money, time. Nothing runs."""
    found = choosing.chosen(filters, corrected_since, uncorrected_sample, size, seed, random=random)
    if (cohort is None) == (not found):
        raise CliError("say which decisions: either --cohort, or --filter or --corrected-since.")
    told = client(endpoint).estimate_experiment(
        cohort=cohort,
        decisions=None if cohort is not None else found,
        overrides=parse_overrides(override or []),
        control_share=control_share,
        concurrency=concurrency,
    )
    if as_json:
        print_json(told)
        return
    print_sheet(stdout(), _estimated(told))


@app.command("list", epilog=example("loopgrid experiment list"))
def list_experiments(endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List experiments, newest first."""
    page = client(endpoint).list_experiments()
    if as_json:
        print_json(page)
        return
    rows = [
        (
            each.name or "",
            each.status,
            str(each.progress["items"]),
            str(each.progress.completed),
            str(each.progress.failed),
            each.recorded_at,
            each.experiment_id,
        )
        for each in page.experiments
    ]
    print_table(stdout(), _COLUMNS, rows)


@app.command(epilog=example(f"loopgrid experiment show {_EXAMPLE_ID}"))
def show(
    experiment_id: ExperimentId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show how far an experiment is, and what came of it so far."""
    grid = client(endpoint)
    experiment = grid.get_experiment(experiment_id)
    if wait:
        experiment = choosing.waited(grid, experiment)
    if as_json:
        print_json(experiment)
        return
    _print(grid, experiment)


@app.command(epilog=example(f"loopgrid experiment items {_EXAMPLE_ID}", "--outcome newly_broken"))
def items(
    experiment_id: ExperimentId,
    arm: Annotated[str | None, typer.Option(help="change or control.")] = None,
    outcome: Annotated[str | None, typer.Option(help="fixed, still_wrong, newly_broken, changed, …")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Items at most.")] = 50,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """List what became of each decision."""
    page = client(endpoint).experiment_items(experiment_id, arm=arm, outcome=outcome, limit=limit)
    if as_json:
        print_json(page)
        return
    print_table(
        stdout(), _ITEMS, [(each.outcome, each.arm, each.why, each.decision_id) for each in page.results]
    )


@app.command(epilog=example(f"loopgrid experiment cancel {_EXAMPLE_ID}", "--reason 'wrong prompt'"))
def cancel(
    experiment_id: ExperimentId,
    reason: Annotated[str | None, typer.Option(help="Why; it is recorded.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who cancels it.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Ask for nothing more; what runs comes to its end."""
    grid = client(endpoint)
    experiment = grid.cancel_experiment(experiment_id, reason=reason, requested_by=by)
    if as_json:
        print_json(experiment)
        return
    _print(grid, experiment)


@app.command(epilog=example(f"loopgrid experiment resume {_EXAMPLE_ID}", "--budget-usd 20"))
def resume(
    experiment_id: ExperimentId,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed, refused and cancelled items once more.")
    ] = False,
    budget_calls: choosing.BudgetCalls = None,
    budget_tokens: choosing.BudgetTokens = None,
    budget_usd: choosing.BudgetUsd = None,
    worker: choosing.App = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")] = True,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Go on with an experiment that stopped or was cancelled. What has ended is not run again."""
    grid = client(endpoint)
    asked = choosing.budget(budget_calls, budget_tokens, budget_usd)
    with choosing.worker_beside(worker, 1, endpoint):
        experiment = grid.resume_experiment(experiment_id, budget=asked, retry_failed=retry_failed)
        if wait:
            experiment = choosing.waited(grid, experiment)
    _end(grid, experiment, as_json=as_json)


def _end(grid: LoopGrid, experiment: ExperimentRecord, *, as_json: bool) -> None:
    if as_json:
        print_json(experiment)
    else:
        _print(grid, experiment)
    if experiment.status in {"stopped", "cancelled"}:
        raise typer.Exit(NEGATIVE)


def _print(grid: LoopGrid, experiment: ExperimentRecord) -> None:
    told = experiment.progress
    counted = {
        "completed": told.completed,
        "failed": told.failed,
        "refused": told.refused,
        "cancelled": told.cancelled,
        "running": told.running,
        "waiting": told.waiting,
    }
    said = ", ".join(f"{count} {name}" for name, count in counted.items() if count)
    lines = [
        ("experiment", experiment.experiment_id),
        ("name", experiment.name or ""),
        ("status", experiment.status + (f": {experiment.reason}" if experiment.reason else "")),
        ("changes", json.dumps(experiment.overrides) if experiment.overrides else "nothing"),
        ("items", f"{told['items']}: {said}"),
        ("used", _amounts(told.spent)),
    ]
    if experiment.status == "running":
        lines += [("expected", "; ".join(f"{what} {how}" for what, how in _estimated(experiment.estimate)))]
        if told.eta_s is not None:
            lines += [("left", f"about {timedelta(seconds=round(told.eta_s))}")]
    print_sheet(stdout(), [(name, value) for name, value in lines if value])
    if experiment.status != "running":
        _print_outcomes(grid, experiment.experiment_id)


def _print_outcomes(grid: LoopGrid, experiment_id: str) -> None:
    """How many of each outcome there are, by arm."""
    counts: dict[str, dict[str, int]] = {}
    for item in all_items(grid, experiment_id):
        counted = counts.setdefault(item["arm"], {})
        counted[item["outcome"]] = counted.get(item["outcome"], 0) + 1
    for arm, found in counts.items():
        said = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(found.items()))
        stdout().print(f"{arm}: {said}", soft_wrap=True)
    stdout().print(
        f"Hold it against a rule: loopgrid check --experiment {experiment_id} --rule 'fixed >= 0.8'",
        soft_wrap=True,
    )


def all_items(grid: LoopGrid, experiment_id: str) -> Sequence[Mapping[str, Any]]:
    """Every item of an experiment, with its verdict."""
    found: list[Mapping[str, Any]] = []
    cursor: str | None = None
    while True:
        page = grid.experiment_items(experiment_id, limit=200, cursor=cursor)
        found += page.results
        cursor = page.next_cursor
        if cursor is None:
            return found


def _estimated(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("items", str(told["items"])),
        ("calls", str(told["calls"])),
        ("tokens", f"{told['input_tokens']} in, {told['output_tokens']} out"),
    ]
    if told["unknown_usage"]:
        lines.append(("unknown", f"{told['unknown_usage']} do not say what they used"))
    cost = "unknown" if told["cost_usd"] is None else f"US$ {told['cost_usd']:.4f}"
    more = f", and {told['unpriced']} without a known price" if told["unpriced"] else ""
    lines.append(("cost", cost + more))
    if told["seconds"] is not None:
        lines.append(("time", f"about {timedelta(seconds=round(told['seconds']))}"))
    lines += [("refused", f"{each['items']}: {each['reason']}") for each in told["refused"]]
    return lines


def _amounts(spent: Mapping[str, Any]) -> str:
    if not spent["calls"]:
        return ""
    cost = f", US$ {spent['cost_usd']:.4f}" if spent["unpriced"] < spent["calls"] else ""
    more = f" ({spent['unpriced']} without a known price)" if spent["unpriced"] else ""
    tokens = f"{spent['input_tokens']} tokens in and {spent['output_tokens']} out"
    return f"{spent['calls']} calls, {tokens}{cost}{more}"
