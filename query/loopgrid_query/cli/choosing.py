"""What commands about cohorts and experiments have in common: how decisions are chosen, waiting, a worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loopgrid import LoopGrid
from loopgrid.experiment_results import ExperimentRecord
from loopgrid_query.cli import profiles
from loopgrid_query.cli.console import stderr
from loopgrid_query.cli.errors import CliError
from loopgrid_query.instants import format_instant

Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="NAME=VALUE",
        help="As `decisions list` filters, e.g. metadata.tier=gold; repeatable.",
    ),
]
CorrectedSince = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="Only decisions whose ground truth was said since: 7d, 36h, or as 2026-03-01T00:00:00Z.",
    ),
]
UncorrectedSample = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="With --corrected-since: N decisions besides that nobody corrected."
    ),
]
Size = Annotated[int | None, typer.Option(min=1, metavar="N", help="Decisions at most.")]
Random = Annotated[bool, typer.Option("--random", help="A random sample of --size, instead of the newest.")]
Seed = Annotated[str | None, typer.Option(help="Draws the same sample again.")]
Override = Annotated[
    list[str] | None,
    typer.Option(
        "--override", metavar="PATH=VALUE", help="What to change, as in prompt.version=2; repeatable."
    ),
]
App = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="PACKAGE.MODULE",
        help="Run replays of its functions meanwhile, in a worker of this command.",
    ),
]
BudgetCalls = Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop before more model calls.")]
BudgetTokens = Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop before more tokens.")]
BudgetUsd = Annotated[
    float | None, typer.Option(min=0.0, metavar="USD", help="Stop before it costs more, by the price book.")
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Replays under way at once.")]
ControlShare = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Share that is repeated unchanged, for the noise.  [default: all]"),
]

_AGO: Final = re.compile(r"(\d{1,6})([mhdw])")
_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_LOOK_S: Final = 0.5


def moment(words: str | None, option: str) -> str | None:
    """A moment as the API takes it, of ``7d`` or of the moment itself.

    Raises:
        CliError: it is neither.
    """
    if words is None:
        return None
    ago = _AGO.fullmatch(words)
    if ago is None:
        return words
    try:
        return format_instant(datetime.now(UTC) - timedelta(seconds=seconds(words, option)))
    except OverflowError as error:
        raise CliError(f"{option} {words} is further back than there are dates.") from error


def seconds(words: str, option: str) -> int:
    """The seconds of a length of time such as ``6h``.

    Raises:
        CliError: it is none.
    """
    length = _AGO.fullmatch(words)
    if length is None:
        raise CliError(f"{option} {words} is no length of time; write 15m, 6h, 1d or 2w.")
    return int(length[1]) * _SECONDS[length[2]]


def chosen(
    filters: Sequence[str] | None = None,
    corrected_since: str | None = None,
    uncorrected_sample: int | None = None,
    size: int | None = None,
    seed: str | None = None,
    *,
    random: bool = False,
) -> dict[str, Any]:
    """What finds decisions, as the API takes it; only what was given."""
    pairs = [word.partition("=") for word in filters or ()]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise CliError(f"cannot read the filter {name!r}; write name=value, as in decision_type=reply.")
    found: dict[str, Any] = {
        "filters": {name: value for name, _, value in pairs} or None,
        "corrected_since": moment(corrected_since, "--corrected-since"),
        "uncorrected_sample": uncorrected_sample,
        "size": size,
        "random": random or None,
        "seed": seed,
    }
    return {name: value for name, value in found.items() if value is not None}


def budget(calls: int | None, tokens: int | None, usd: float | None) -> dict[str, Any] | None:
    """A budget, as the API takes it; None where none was given."""
    given = {"calls": calls, "tokens": tokens, "usd": usd}
    return {name: most for name, most in given.items() if most is not None} or None


def waited(grid: LoopGrid, experiment: ExperimentRecord) -> ExperimentRecord:
    """The experiment once it is not running any more, with a bar meanwhile.

    Ctrl-C ends the waiting and not the experiment.

    Raises:
        CliError: who waits gave up.
    """
    experiment_id = experiment.experiment_id
    console = stderr()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        bar = progress.add_task("replaying", total=experiment.progress["items"], left="")
        try:
            while experiment.status == "running":
                told = experiment.progress
                done = told.completed + told.failed + told.refused + told.cancelled
                eta_s = told.eta_s
                left = "" if eta_s is None else f"about {timedelta(seconds=round(eta_s))} left"
                failed = f", {told.failed} failed" if told.failed else ""
                progress.update(bar, completed=done, left=left + failed)
                time.sleep(_LOOK_S)
                experiment = grid.get_experiment(experiment_id)
        except KeyboardInterrupt as interrupted:
            raise CliError(
                f"no longer waiting; {experiment_id} goes on. See: loopgrid experiment show {experiment_id}; "
                f"end it: loopgrid experiment cancel {experiment_id}"
            ) from interrupted
    return experiment


@contextmanager
def worker_beside(app: str | None, concurrency: int, endpoint: str | None) -> Iterator[None]:
    """Run a worker for the length of a block, where a module is given.

    Raises:
        CliError: it could not begin; it has said why.
    """
    if app is None:
        yield
        return
    server = profiles.server(endpoint, os.environ)
    reach: Mapping[str, str] = {
        "LOOPGRID_ENDPOINT": server.endpoint,
        "LOOPGRID_API_KEY": server.api_key or "",
    }
    command = [sys.executable, "-m", "loopgrid_query.cli", "worker", app, "--json"]
    with subprocess.Popen(  # noqa: S603 - ourselves, with the module that the user names
        [*command, "--concurrency", str(concurrency)],
        env={**os.environ, **reach},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdout is not None  # noqa: S101 - it was asked for
        try:
            if not worker.stdout.readline():
                raise CliError(f"no worker for {app} could begin.")
            with _drained(worker.stdout):
                yield
        finally:
            worker.terminate()


@contextmanager
def _drained(lines: Any) -> Iterator[None]:
    """Read what a worker tells, so that it never waits for a reader."""
    from threading import Thread

    reader = Thread(target=lambda: [None for _ in lines], daemon=True)
    reader.start()
    yield
