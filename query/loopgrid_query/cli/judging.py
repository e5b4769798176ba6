"""``loopgrid mark`` and ``loopgrid correct``: what a human says about a decision."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import print_json, stdout
from loopgrid_query.cli.errors import CliError

DecisionId = Annotated[str, typer.Argument(help="Id of the decision.")]


def mark(
    decision_id: DecisionId,
    reason: Annotated[str, typer.Option(help="Why it is wrong.")],
    by: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Mark a decision as incorrect. The mark is appended; the decision stays as it is."""
    made = client(endpoint).mark_incorrect(decision_id, reason=reason, marked_by=by)
    if as_json:
        print_json(made)
        return
    stdout().print(f"Marked incorrect: {made['mark_id']}", soft_wrap=True)


def correct(
    decision_id: DecisionId,
    output: Annotated[
        str, typer.Option(help="The right output: JSON, @file with JSON in it, or @- for stdin.")
    ],
    by: Annotated[str, typer.Option(help="Who says so.")],
    reason: Annotated[str | None, typer.Option(help="Why this is right.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Attach the output that a human says is right. The latest correction is the ground truth."""
    made = client(endpoint).attach_correction(
        decision_id=decision_id, correction=read_output(output), corrected_by=by, reason=reason
    )
    if as_json:
        print_json(made)
        return
    stdout().print(f"Correction attached: {made['correction_id']}", soft_wrap=True)


def read_output(word: str) -> Any:
    """The JSON value that ``--output`` gives or points to.

    Raises:
        CliError: the file cannot be read, or the text is not JSON.
    """
    text, source = word, "--output"
    if word.startswith("@"):
        source = word[1:]
        try:
            text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"cannot read {source}: {error}; check the path after the @.") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise CliError(
            f"{source} is not JSON ({error}); a plain text is written in double quotes inside "
            """single ones, as in --output '"Refund initiated."'."""
        ) from error
