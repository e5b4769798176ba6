"""``loopgrid evaluations``: judgement as OpenTelemetry log records, and accepting what others sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
import urllib3

from loopgrid.schema import JudgementKey
from loopgrid_query.cli.connection import AsJson, Connection, Endpoint, example
from loopgrid_query.cli.console import print_json, stderr, stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.judging import By, speaker

app = typer.Typer(
    help="Send judgement to other backends, and accept theirs.", no_args_is_help=True, rich_markup_mode=None
)

_PATH: Final = "/v1/evaluations"
_NDJSON: Final = "application/x-ndjson"
_OK: Final = 200
_PIECE_BYTES: Final = 2**16
_BECOMES: Final = ("mark", "approval", "correction")


@app.command(epilog=example("loopgrid evaluations export --output judgement.jsonl"))
def export(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where it goes; goes on after what is in it."),
    ] = None,
    after: Annotated[
        int | None, typer.Option(min=-1, metavar="POSITION", help="Only what was said after this.")
    ] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Write judgement as OpenTelemetry log records (gen_ai.evaluation.result).

    Each line is a request that any OTLP/HTTP endpoint takes at /v1/logs as JSON. Says where to go on.
    """
    if as_json and output is None:
        raise CliError("--json tells what was written, so it takes --output FILE.")
    if output is None:
        position = _stream(endpoint, -1 if after is None else after, sys.stdout.buffer)
    else:
        with _appending(output) as (file, last):
            if after is not None and last is not None:
                raise CliError(f"{output} says where to go on; leave --after out, or name another file.")
            start = last if last is not None else -1 if after is None else after
            position = _stream(endpoint, start, file)
    if as_json:
        print_json({"file": str(output), "position": position})
    else:
        stderr().print(f"To go on with what is said from now on: --after {position}")


@app.command(
    epilog=example(
        "loopgrid evaluations accept human_review", "--label incorrect=mark --label correct=approval"
    )
)
def accept(
    name: Annotated[str, typer.Argument(help="Name of the evaluations (gen_ai.evaluation.name).")],
    labels: Annotated[
        list[str],
        typer.Option(
            "--label", metavar="LABEL=EVENT", help="Makes it a mark, an approval or a correction; repeatable."
        ),
    ],
    evaluator: Annotated[
        str | None, typer.Option(help="Only those that name this evaluator; a claim of the sender.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only those of this kind, as in human; a claim of the sender.")
    ] = None,
    up_to_commit: Annotated[
        int | None, typer.Option(min=0, help="Only those on record by then, as --dry-run says.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show them, and append nothing.")] = False,
    by: By = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Make your own word of evaluations that others sent: marks, approvals, corrections.

    Each is accepted once. Look at them first: --dry-run, or loopgrid sql 'FROM evaluations'.
    """
    body = {
        "name": name,
        "labels": dict(map(_mapping, labels)),
        "evaluator_id": evaluator,
        "annotator_kind": kind,
        "up_to_commit": up_to_commit,
        "dry_run": dry_run,
        "said_by": speaker(by),
    }
    items: list[dict[str, Any]] = []
    with Connection(endpoint) as connection:
        answer = connection.json("POST", f"{_PATH}/accept", body)
        items += answer["items"]
        while answer["left"].get("beyond_limit") and not dry_run:
            answer = connection.json("POST", f"{_PATH}/accept", body)
            items += answer["items"]
    if as_json:
        print_json({**answer, "items": items})
        return
    out = stdout()
    for item in items:
        said = f": {item['explanation']}" if item["explanation"] else ""
        out.print(
            f"{item['decision_id']} {item['label']} → {item['event']} {item['judgement_id']}{said}",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
    done = "would be accepted" if dry_run else "accepted"
    stderr().print(f"{len(items)} {done}.")
    for reason, count in answer["left"].items():
        # What an earlier round of this very command accepted is no news.
        known = count - (len(items) - len(answer["items"])) if reason == "accepted_before" else count
        if known:
            stderr().print(f"{known} left: {reason.replace('_', ' ')}")
    if dry_run and items:
        stderr().print(f"To accept these and no newer ones: --up-to-commit {answer['up_to_commit']}")


def _mapping(word: str) -> tuple[str, str]:
    label, equals, event = word.rpartition("=")
    if not (label and equals) or event not in _BECOMES:
        raise CliError(f"cannot read --label {word!r}; write LABEL=EVENT with one of {', '.join(_BECOMES)}.")
    return label, event


def _stream(endpoint: str | None, after: int, file: BinaryIO) -> int:
    """Write what the server answers; the position to go on after."""
    with Connection(endpoint) as connection:
        answer = connection.stream(f"{_PATH}?after={after}", accept=_NDJSON)
        try:
            if answer.status != _OK:
                raise CliError(_refusal(answer.status, answer.data))
            file.writelines(answer.stream(_PIECE_BYTES))
            file.flush()
        except urllib3.exceptions.HTTPError as error:
            raise CliError("the server broke off; the same command goes on where this one ended.") from error
        finally:
            answer.release_conn()
        return int(answer.headers["loopgrid-position"])


def _refusal(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered HTTP {status}: is that the API port, by default 8000?"


@contextmanager
def _appending(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file, open behind its last whole line, and the position of that; None where it has none.

    Raises:
        CliError: it cannot be written, or holds something else.
    """
    try:
        with path.open("a+b") as file:
            file.seek(0)
            whole, last = 0, b""
            for line in file:
                if line.endswith(b"\n"):
                    whole, last = whole + len(line), line
            # A line that was cut off by an interruption comes again.
            position = None if not last else _position(last, path)
            file.truncate(whole)
            yield file, position
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror or error}.") from error


def _position(line: bytes, path: Path) -> int:
    """The position of the last record on a line."""
    try:
        record = json.loads(line)["resourceLogs"][-1]["scopeLogs"][-1]["logRecords"][-1]
        pairs = {pair["key"]: pair["value"] for pair in record["attributes"]}
        return int(pairs[JudgementKey.POSITION]["intValue"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise CliError(f"{path} holds something else than exported judgement; name another file.") from error
