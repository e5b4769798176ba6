"""``loopgrid experiment drift``: whether the model behind a name has moved since decisions were recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from loopgrid import LoopGrid
from loopgrid_query.cli import choosing, held
from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import print_json, print_sheet, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.experimenting import all_items
from loopgrid_query.compare import Equality
from loopgrid_query.compare import equality as equalities

_COMPLETED: Final = {"status": "completed", "reason": None, "replay_id": ""}


def drift(
    cohort: Annotated[
        str | None, typer.Option(metavar="NAME", help="Repeat the decisions of this cohort, twice.")
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Look at an experiment without overrides that ran with a control arm."
        ),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="ID", help="Look at the newest run of this schedule.")
    ] = None,
    concurrency: choosing.Concurrency = 8,
    budget_calls: choosing.BudgetCalls = None,
    budget_tokens: choosing.BudgetTokens = None,
    budget_usd: choosing.BudgetUsd = None,
    equality: Annotated[
        str | None, typer.Option(metavar="RULE", help="When outputs count as equal, as in loopgrid compare.")
    ] = None,
    worker: choosing.App = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Repeat a frozen cohort unchanged, and say whether the model behind its name has moved.

    Each decision runs twice. How far the repeats differ from each other is noise; it has moved where they
    agree with each other against the record more often than noise explains, or where the provider says that
    another model answers. Exits 0 where it has not moved, 1 where it has or where nobody can say.
    """
    from loopgrid_query.replay import drift as drifts

    if sum(each is not None for each in (cohort, experiment, schedule)) != 1:
        raise CliError("say what to look at: one of --cohort, --experiment and --schedule.")
    grid = client(endpoint)
    if schedule is not None:
        experiment = _newest_run(grid, schedule)
    if experiment is None:
        with choosing.worker_beside(worker, concurrency, endpoint):
            begun = grid.create_experiment(
                cohort=cohort,
                overrides={},
                name=f"drift of {cohort}",
                control_share=1.0,
                concurrency=concurrency,
                budget=choosing.budget(budget_calls, budget_tokens, budget_usd),
                equality=equality,
            )
            experiment = choosing.waited(grid, begun).experiment_id
    told = grid.get_experiment(experiment)
    if told.overrides:
        raise CliError(
            f"{experiment} changes something, so it says nothing about drift; name one that does not."
        )
    found = drifts.drift(_repeated(grid, experiment, equalities.parse(equality or told.equality)))
    if as_json:
        print_json({"experiment_id": experiment, **asdict(found)})
    else:
        _print(experiment, found)
    if found.moved is not False:
        raise typer.Exit(NEGATIVE)


def _newest_run(grid: LoopGrid, schedule_id: str) -> str:
    """The newest experiment of a schedule, once it has ended.

    Raises:
        CliError: there is none.
    """
    found = grid.get_schedule(schedule_id)
    if found.last_experiment_id is None:
        why = f": {found.trouble}" if found.trouble else "; its first run begins within seconds."
        raise CliError(f"{schedule_id} has not run yet{why}")
    return choosing.waited(grid, grid.get_experiment(found.last_experiment_id)).experiment_id


def _repeated(grid: LoopGrid, experiment_id: str, equality: Equality) -> Iterator[Any]:
    """What became of each decision, a few at a time.

    Raises:
        CliError: nothing was repeated twice.
    """
    from loopgrid_query.replay.drift import Repeated

    arms: dict[str, dict[str, Mapping[str, Any]]] = {"change": {}, "control": {}}
    for item in all_items(grid, experiment_id):
        arms[item["arm"]][item["decision_id"]] = item
    if not arms["control"]:
        raise CliError(
            f"{experiment_id} has no control arm; run it with --control-share 1, or give --cohort."
        )
    results = _results(grid, experiment_id)
    decision_ids = sorted(arms["control"])
    for start in range(0, len(decision_ids), held.BATCH):
        batch = decision_ids[start : start + held.BATCH]
        pairs = {each: [results.get((arm, each)) for arm in ("change", "control")] for each in batch}
        read = dict(held.decisions_of(grid, batch))
        for place in (0, 1):
            read |= held.decisions_of(grid, [name for pair in pairs.values() if (name := pair[place])])
        for each in batch:
            ran = [read.get(name) if name else None for name in pairs[each]]
            yield Repeated(
                first=arms["change"][each]["same"],
                second=arms["control"][each]["same"],
                repeats=_alike(grid, ran, equality),
                recorded_model=read[each]["model"]["response_name"],
                served_models=tuple(one["model"]["response_name"] for one in ran if one),
            )


def _alike(grid: LoopGrid, ran: Sequence[Mapping[str, Any] | None], equality: Equality) -> bool | None:
    """Whether two repeats have the same output; None where nobody can say."""
    from loopgrid_query.replay.statistics import item_of

    first, second = ran
    if first is None or second is None:
        return None
    nulls = held.nulls_of(grid, ran)
    return item_of({**first, "ground_truth": None}, _COMPLETED, second, equality=equality, nulls=nulls).same


def _results(grid: LoopGrid, experiment_id: str) -> dict[tuple[str, str], str]:
    """The decisions that completed items led to, by arm and decision."""
    from loopgrid_query.queries import load_queries

    found = grid.sql(load_queries()["experiment_results"].sql, {"experiment_id": experiment_id})
    if found["truncated"]:
        raise CliError(f"{experiment_id} has more items than one answer holds; repeat a smaller cohort.")
    rows: Iterable[tuple[str, str, str]] = found["rows"]
    return {(arm, decision_id): result for arm, decision_id, result in rows}


def _print(experiment_id: str, found: Any) -> None:
    out = stdout()
    moved = {True: "it has moved", False: "it has not moved", None: "nobody can say"}[found.moved]
    lines = [
        ("experiment", experiment_id),
        ("decisions", f"{found.items}, {found.unknown} of them not comparable"),
        ("unlike the record", f"{found.differing}"),
        ("unlike each other", f"{found.noisy} (noise)"),
        ("odd one out", f"the record {found.record_apart}, a repeat {found.repeat_apart}"),
        ("p", f"{found.p_value:.3g}"),
    ]
    lines += [("answers now", f"{now} for {was}: {count}") for was, now, count in found.renamed]
    print_sheet(out, lines)
    out.print(f"{moved}: {found.why}", soft_wrap=True)
