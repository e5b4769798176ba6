"""What a human says about a decision: ``loopgrid mark``, ``correct``, ``agree``, ``dispute``, and so on."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from loopgrid_query.cli.connection import AsJson, Endpoint, client
from loopgrid_query.cli.console import print_json, stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.gist import gist

DecisionId = Annotated[str, typer.Argument(help="Id of the decision.")]
SubjectId = Annotated[str, typer.Argument(help="Id of what is meant: a mark, an approval, a correction.")]
By = Annotated[
    str | None,
    typer.Option(help="Who says so; if left out, the API key's person, or who is logged in here."),
]
Why = Annotated[str | None, typer.Option(help="Why.")]
Output = Annotated[
    str | None, typer.Option(help="The right output: JSON, @file with JSON in it, or @- for stdin.")
]
Patch = Annotated[
    str | None,
    typer.Option(help="What to change in the recorded output instead: JSON Patch (RFC 6902), or @file."),
]


def mark(
    decision_id: DecisionId,
    reason: Annotated[str | None, typer.Option(help="Why it is wrong; needed unless --correct.")] = None,
    correct_: Annotated[bool, typer.Option("--correct", help="Say that it was correct.")] = False,
    category: Annotated[str | None, typer.Option(help="Kind of fault, in a word of yours.")] = None,
    severity: Annotated[str | None, typer.Option(help="How bad it is, in a word of yours.")] = None,
    by: By = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Mark a decision as incorrect, or as correct. The mark is appended; the decision stays as it is."""
    grid = client(endpoint)
    who = speaker(by)
    if correct_:
        made = grid.mark_correct(
            decision_id, reason=reason, category=category, severity=severity, said_by=who
        )
        _told(made, as_json, f"Marked correct: {made['judgement_id']}")
        return
    if reason is None:
        raise CliError("--reason is missing: say why the decision is wrong.")
    marked = grid.mark_incorrect(
        decision_id, reason=reason, category=category, severity=severity, marked_by=who
    )
    _told(marked, as_json, f"Marked incorrect: {marked['mark_id']}")


def correct(
    decision_id: DecisionId,
    output: Output = None,
    patch: Patch = None,
    by: By = None,
    reason: Annotated[str | None, typer.Option(help="Why this is right.")] = None,
    category: Annotated[str | None, typer.Option(help="Kind of fault, in a word of yours.")] = None,
    severity: Annotated[str | None, typer.Option(help="How bad it is, in a word of yours.")] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Attach the output that a human says is right. The latest correction is the ground truth."""
    made = client(endpoint).attach_correction(
        decision_id,
        **_right(output, patch),
        corrected_by=speaker(by),
        reason=reason,
        category=category,
        severity=severity,
    )
    _told(made, as_json, f"Correction attached: {made['correction_id']}")


def agree(
    decision_id: DecisionId,
    subject_id: SubjectId,
    reason: Why = None,
    by: By = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Agree with what somebody else said about a decision."""
    made = client(endpoint).agree(decision_id, subject_id, reason=reason, said_by=speaker(by))
    _told(made, as_json, f"Agreed: {made['judgement_id']}")


def dispute(
    decision_id: DecisionId,
    subject_id: SubjectId,
    reason: Why = None,
    by: By = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Dispute what somebody else said about a decision."""
    made = client(endpoint).dispute(decision_id, subject_id, reason=reason, said_by=speaker(by))
    _told(made, as_json, f"Disputed: {made['judgement_id']}")


def withdraw(
    decision_id: DecisionId,
    subject_id: Annotated[str, typer.Argument(help="Id of what is withdrawn.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    by: By = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Take back what was said. It stays on record and counts no more; what stood before stands again."""
    made = client(endpoint).withdraw(decision_id, subject_id, reason=reason, said_by=speaker(by))
    _told(made, as_json, f"Withdrawn: {made['subject_id']}")


def adjudicate(
    decision_id: DecisionId,
    reason: Annotated[str, typer.Option(help="Why.")],
    correction_id: Annotated[str | None, typer.Argument(help="The correction that stands.")] = None,
    output: Output = None,
    patch: Patch = None,
    by: By = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """End a dispute: say which correction stands, or state the right output."""
    stated = {} if correction_id is not None and output is None and patch is None else _right(output, patch)
    made = client(endpoint).adjudicate(
        decision_id, correction_id, **stated, reason=reason, said_by=speaker(by)
    )
    _told(made, as_json, f"Adjudicated: {made['subject_id']} stands")


def history(decision_id: DecisionId, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show everything that happened to a decision, oldest first, also what was withdrawn."""
    found = client(endpoint).history(decision_id)
    if as_json:
        print_json(found)
        return
    for event in found["items"]:
        stdout().print(_line(event), soft_wrap=True, markup=False, highlight=False)


def outcome(
    key: Annotated[str, typer.Argument(help="Kind of the business key, as in order.")],
    value: Annotated[str, typer.Argument(help="Its value.")],
    output: Annotated[str, typer.Option("--outcome", help="What happened: JSON, @file, or @- for stdin.")],
    occurred_at: Annotated[str | None, typer.Option(help="When it happened.")] = None,
    by: By = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Report what became of a thing, by the business key that decisions about it state."""
    made = client(endpoint).report_outcome(
        key, value, outcome=read_output(output, "--outcome"), occurred_at=occurred_at, reported_by=speaker(by)
    )
    about = [item["decision_id"] for item in made["items"] if item["decision_id"] is not None]
    told = ", ".join(about) if about else "no decision states this key yet"
    _told(made, as_json, f"Outcome reported: {made['items'][0]['outcome_id']} ({told})")


def speaker(by: str | None) -> str | None:
    """Who is to be on record: who is named, else the key's person (None), else who is logged in here."""
    if by is not None or os.environ.get("LOOPGRID_API_KEY"):
        return by
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise CliError("nobody is logged in here; say who it is with --by.") from error


def _right(output: str | None, patch: str | None) -> dict[str, Any]:
    if (output is None) == (patch is None):
        raise CliError("give either --output, the right output, or --patch, what to change in it.")
    if patch is not None:
        return {"patch": read_output(patch, "--patch")}
    return {"correction": read_output(output or "")}


def _told(made: Mapping[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(made)
        return
    stdout().print(sentence, soft_wrap=True)


def _line(event: Mapping[str, Any]) -> str:
    """An event of a history on one line."""
    parts = [event["recorded_at"][:19], f"commit {event['commit_id']}", event["event"], event["id"]]
    if event["subject_id"]:
        parts.append(f"of {event['subject_id']}")
    if event["said_by"]:
        parts.append(f"by {event['said_by']}")
    parts += [f"{name}={event[name]}" for name in ("category", "severity") if event[name]]
    said = " ".join(
        filter(None, [event["reason"], gist(event["output"]) if event["output"] is not None else ""])
    )
    return " ".join(parts) + (f": {said}" if said else "") + (" (withdrawn)" if event["withdrawn"] else "")


def read_output(word: str, option: str = "--output") -> Any:
    """The JSON value that an option such as ``--output`` gives or points to.

    Raises:
        CliError: the file cannot be read, or the text is not JSON.
    """
    text, source = word, option
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
