"""Composes the command line and is the one place where a command's failure becomes words."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from loopgrid.errors import LoopGridError
from loopgrid.version import version
from loopgrid_collector.errors import CollectorError
from loopgrid_query.cli import (
    checking,
    cohorts,
    comparison,
    completing,
    decisions,
    demo,
    drifting,
    evaluations,
    experimenting,
    exporting,
    importing,
    judging,
    keys,
    pricing,
    profile_commands,
    profiles,
    renormalizing,
    replay_commands,
    replays,
    review,
    reviews,
    scheduling,
    serving,
    snapshotting,
    sql,
    verifying,
    worker,
)
from loopgrid_query.cli.connection import EXAMPLE_ID, example
from loopgrid_query.cli.errors import FAILURE, CliError

app = typer.Typer(
    name="loopgrid",
    help="Record AI decisions, replay them, correct them.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 wrong usage or failure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"loopgrid {version()}\n")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit."),
    ] = False,
) -> None:
    """What stands before the command."""


app.command(epilog=example("loopgrid serve --ledger decisions.duckdb --port 8000"))(serving.serve)
app.command(epilog=example("loopgrid demo"))(demo.demo)
app.add_typer(decisions.app, name="decisions")
app.command(epilog=example(f"loopgrid mark {EXAMPLE_ID}", "--reason 'Missed billing issue' --by dana"))(
    judging.mark
)
app.command(epilog=example(f"loopgrid correct {EXAMPLE_ID}", "--output @right.json --by dana"))(
    judging.correct
)
_CORRECTION = "cor_8c2d3f405b6e47a19d0e1f2a3b4c5d6e"
app.command(epilog=example(f"loopgrid agree {EXAMPLE_ID}", f"{_CORRECTION} --by dana"))(judging.agree)
app.command(epilog=example(f"loopgrid dispute {EXAMPLE_ID}", f"{_CORRECTION} --reason 'Policy 7'"))(
    judging.dispute
)
app.command(epilog=example(f"loopgrid withdraw {EXAMPLE_ID}", f"{_CORRECTION} --reason 'Mistaken'"))(
    judging.withdraw
)
app.command(epilog=example(f"loopgrid adjudicate {EXAMPLE_ID}", f"{_CORRECTION} --reason 'Policy 7'"))(
    judging.adjudicate
)
app.command(epilog=example(f"loopgrid history {EXAMPLE_ID}"))(judging.history)
app.command(epilog=example("loopgrid outcome order 4711", """--outcome '{"refund": "accepted"}'"""))(
    judging.outcome
)
app.command(epilog=example("loopgrid review 'week 12' --as dana"))(review.review)
app.add_typer(reviews.app, name="reviews")
app.command(
    epilog=example(f"loopgrid replay {EXAMPLE_ID}", "--override prompt.version=2 --app support_agent")
)(replays.replay)
app.add_typer(replay_commands.app, name="replays")
app.command(epilog=example("loopgrid worker support_agent --concurrency 4 --time-limit 60"))(worker.worker)
app.command(epilog=example(f"loopgrid compare {EXAMPLE_ID}", "rpl_8c2d3f405b6e47a19d0e1f2a3b4c5d6e"))(
    comparison.compare
)
app.add_typer(cohorts.app, name="cohort")
experimenting.app.command(epilog=example("loopgrid experiment drift --cohort canaries --budget-calls 200"))(
    drifting.drift
)
experimenting.app.command(
    epilog=example("loopgrid experiment schedule nightly --cohort canaries --every 1d")
)(scheduling.schedule)
experimenting.app.command(epilog=example("loopgrid experiment schedules"))(scheduling.schedules)
experimenting.app.command(
    epilog=example(
        "loopgrid experiment unschedule sch_8c2d3f405b6e47a19d0e1f2a3b4c5d6e", "--reason 'moved on'"
    )
)(scheduling.unschedule)
app.add_typer(experimenting.app, name="experiment")
app.command(
    epilog=example(
        "loopgrid check --override prompt.version=2 --corrected-since 7d",
        "--rule 'fixed >= 0.8 and newly_broken == 0' --html gate.html",
    )
)(checking.check)
app.command(
    epilog=example("loopgrid sql", "'SELECT model_name, count(*) FROM decisions GROUP BY ALL' --csv")
)(sql.sql)
app.command(epilog=example("loopgrid export --format openai-chat --corrected", "--output training"))(
    exporting.export
)
app.add_typer(exporting.app, name="exports")
app.add_typer(evaluations.app, name="evaluations")
app.add_typer(pricing.app, name="prices")
app.command("import", epilog=example("loopgrid import traces.jsonl captured/"))(importing.import_files)
app.command(epilog=example("loopgrid renormalize --ledger decisions.duckdb --dry-run"))(
    renormalizing.renormalize
)
app.command(epilog=example("loopgrid snapshot copies/week-12", "--format parquet"))(snapshotting.snapshot)
app.add_typer(keys.app, name="keys")
app.command(epilog=example("loopgrid verify --ledger decisions.duckdb --completeness"))(verifying.verify)
app.add_typer(profile_commands.app, name="profiles")
app.command(epilog=example("loopgrid completion bash"))(completing.completion)


def command_line() -> Any:
    """All commands, as the library runs them; those that talk to a server take ``--profile``."""
    completing.prepare()
    commands = typer.main.get_command(app)
    profile_commands.offer_profiles(commands)
    return commands


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: words after ``loopgrid``; those of the process where not given.

    Returns:
        The exit code: 0 done, 1 the answer is no, 2 wrong usage or failure.
    """
    profiles.chosen.set(None)
    try:
        code = command_line().main(arguments, prog_name="loopgrid", standalone_mode=False)
    except typer.TyperException as error:
        return _misused(error)
    except (CliError, LoopGridError, CollectorError) as error:
        return _fail(str(error))
    except typer.Abort:
        return FAILURE
    return code if isinstance(code, int) else 0


def _misused(error: typer.TyperException) -> int:
    """One sentence instead of typer's usage block; asking for nothing shows the help."""
    context = getattr(error, "ctx", None)
    message = error.format_message().strip()
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{message}\n")
        return FAILURE
    hint = f" See: {context.command_path} --help" if context is not None else ""
    return _fail(message + ("" if message.endswith((".", "?")) else ".") + hint)


def _fail(message: str) -> int:
    sentence = " ".join(message.split())
    sys.stderr.write(f"loopgrid: {sentence}\n")
    return FAILURE
