"""``loopgrid export`` and ``loopgrid exports``: corrections as training and test data, each row traceable."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn
from urllib.parse import urlencode

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loopgrid_query.cli.connection import AsJson, Connection, Endpoint, example
from loopgrid_query.cli.console import print_json, stderr, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError

if TYPE_CHECKING:
    import pyarrow as pa

    from loopgrid_query.exports.asking import After
    from loopgrid_query.exports.source import Exports, Standpoint
    from loopgrid_query.exports.writing import Feed

app = typer.Typer(help="Look after exports that were made.", no_args_is_help=True, rich_markup_mode=None)

_OK: Final = 200
_LEAST_FOR_OPENAI: Final = 10
"""Examples without which OpenAI starts no fine-tuning."""

LedgerFile = Annotated[
    str | None,
    typer.Option("--ledger", metavar="FILE", help="Read this ledger, which no server has open, instead."),
]


def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="jsonl, parquet, openai-chat, preference, preference-trl, inspect, promptfoo or hf.",
        ),
    ] = "jsonl",
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", metavar="NAME=VALUE", help="A filter of decisions list; repeatable."),
    ] = None,
    incorrect: Annotated[
        bool | None, typer.Option("--incorrect/--not-incorrect", help="Marked incorrect, or not.")
    ] = None,
    corrected: Annotated[
        bool | None, typer.Option("--corrected/--not-corrected", help="Has a correction, or not.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="Only what was on record then; or a commit's number.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Which correction is the ground truth: latest, majority or adjudicated.")
    ] = "latest",
    test_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the subjects that are for testing.")
    ] = 0.0,
    salt: Annotated[str, typer.Option(help="What subjects are hashed with.")] = "loopgrid",
    split_at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="For testing from here on; excludes --test-share.")
    ] = None,
    ledger: LedgerFile = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Write decisions and corrections as training and test data, with a manifest and the lineage of each row.

    All rows are as of one commit. An export that was interrupted goes on with the same command.
    """
    # Imported late: Arrow and DuckDB take a while that no other command shall wait.
    from loopgrid_query.exports import asking, writing
    from loopgrid_query.exports.splits import Rule

    if split_at and test_share:
        raise CliError("--split-at and --test-share exclude each other; give one of them.")
    filters = _filters(where or [], incorrect=incorrect, corrected=corrected)
    words = [("format", format_), ("policy", policy), *filters]
    words += [("as_of", as_of)] if as_of else []
    words += [("split_at", split_at)] if split_at else []
    with _explained():
        asked = asking.read(words)
        task = writing.Task(format_, policy, filters, as_of, Rule(test_share, salt, asked.split_at))
        with _feed(words, ledger, endpoint) as feed, _progress() as progress:
            manifest = writing.export(task, feed, output, progress)
    if as_json:
        print_json(manifest)
    else:
        _print_manifest(output, manifest)


@app.command("affected", epilog=example("loopgrid exports affected training/manifest.json"))
def affected(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST…", help="Manifests, or their folders.")
    ],
    ledger: LedgerFile = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """List the rows of exports that rest on what is no longer so.

    A correction that was superseded or withdrawn, a decision that was corrected or marked since.
    Exit code 1 if any.
    """
    from loopgrid_query.exports import affected as rules

    found: list[dict[str, Any]] = []
    with _explained(), _standing(ledger, endpoint) as standing:
        for path in manifests:
            manifest = rules.read_manifest(path)
            found += [{"manifest": manifest["path"], **row} for row in rules.affected(manifest, standing)]
    if as_json:
        print_json({"affected": found})
    else:
        for row in found:
            stdout().print(
                f"{row['manifest']}: {row['file']} row {row['row']}: {row['decision_id']} "
                f"{', '.join(row['reasons'])}" + (f", now {row['now']}" if row["now"] else ""),
                soft_wrap=True,
            )
        stderr().print(f"{len(found)} rows are affected." if found else "No row is affected.")
    if found:
        raise typer.Exit(NEGATIVE)


def _filters(where: Sequence[str], **flags: bool | None) -> list[tuple[str, str]]:
    filters = []
    for word in where:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise CliError(f"cannot read --where {word!r}; write name=value, as in prompt_version=2.")
        filters.append((name.replace("-", "_") if not name.startswith("metadata.") else name, value))
    filters += [(name, "true" if value else "false") for name, value in flags.items() if value is not None]
    return filters


@contextmanager
def _explained() -> Iterator[None]:
    """What can go wrong, as the command's one sentence."""
    import duckdb

    from loopgrid_query.errors import QueryError
    from loopgrid_query.exports.writing import Refused

    try:
        yield
    except (QueryError, Refused) as error:
        raise CliError(str(error)) from error
    except duckdb.Error as error:
        raise CliError(f"the ledger cannot be read: {str(error).splitlines()[0]}") from error
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        raise CliError(f"cannot read or write{place}: {error.strerror or error}.") from error


@contextmanager
def _progress() -> Iterator[Any]:
    console = stderr()
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} decisions"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        bar = progress.add_task("exporting", total=None)
        yield lambda done: progress.update(bar, completed=done)


@contextmanager
def _feed(words: Sequence[tuple[str, str]], ledger: str | None, endpoint: str | None) -> Iterator[Feed]:
    if ledger is not None:
        with _opened(ledger) as exports:
            yield _FromFile(exports, words)
        return
    with Connection(endpoint) as connection:
        yield _FromServer(connection, words)


@contextmanager
def _opened(ledger: str) -> Iterator[Exports]:
    from loopgrid_collector.ledger.opening import ReadOnly
    from loopgrid_query.exports.source import Exports

    with ReadOnly(Path(ledger).expanduser().absolute()) as opened:
        yield Exports(opened)


def _words(
    words: Sequence[tuple[str, str]], after: After | None, commit_id: int | None
) -> list[tuple[str, str]]:
    """The same words, going on where an interrupted export was, as of the same commit."""
    if commit_id is None:
        return list(words)
    kept = [(name, value) for name, value in words if name != "as_of"]
    return [*kept, ("as_of", str(commit_id)), *([("after", after.text())] if after else [])]


class _FromFile:
    """Decisions of a ledger file."""

    def __init__(self, exports: Exports, words: Sequence[tuple[str, str]]) -> None:
        self._exports = exports
        self._words = words

    def pages(self, after: After | None, commit_id: int | None) -> tuple[Standpoint, Iterator[pa.Table]]:
        from loopgrid_query.exports import asking

        asked = asking.read(_words(self._words, after, commit_id))
        standpoint = self._exports.standpoint(asked)
        return standpoint, self._exports.pages(asked, standpoint)


class _FromServer:
    """Decisions of a running server."""

    def __init__(self, connection: Connection, words: Sequence[tuple[str, str]]) -> None:
        self._connection = connection
        self._words = words

    def pages(self, after: After | None, commit_id: int | None) -> tuple[Standpoint, Iterator[pa.Table]]:
        import pyarrow as pa

        from loopgrid_query.exports import streams

        query = urlencode(_words(self._words, after, commit_id))
        answer = self._connection.stream(f"/v1/export?{query}", accept=streams.ARROW)
        if answer.status != _OK:
            _refused(answer.status, answer.data)
        stream = pa.ipc.open_stream(io.BufferedReader(answer, _BUFFER_BYTES))
        return streams.standpoint_of(stream.schema), _tables(stream)


_BUFFER_BYTES: Final = 2**16


def _tables(stream: pa.RecordBatchStreamReader) -> Iterator[pa.Table]:
    import pyarrow as pa
    import urllib3

    try:
        for batch in stream:
            yield pa.Table.from_batches([batch])
    except (urllib3.exceptions.HTTPError, pa.ArrowException) as error:
        raise CliError("the server broke off; the same command goes on where this one ended.") from error


@contextmanager
def _standing(ledger: str | None, endpoint: str | None) -> Iterator[Any]:
    if ledger is not None:
        with _opened(ledger) as exports:
            yield exports.standing
        return
    with Connection(endpoint) as connection:

        def ask(decision_ids: Sequence[str], since_commit: int, policy: str) -> Any:
            body = {"decision_ids": decision_ids, "since_commit": since_commit, "policy": policy}
            answer = connection.post(
                "/v1/export/standing", json.dumps(body).encode(), content_type="application/json"
            )
            if answer.status != _OK:
                _refused(answer.status, answer.body)
            return json.loads(answer.body)

        yield ask


def _refused(status: int, body: bytes) -> NoReturn:
    try:
        message = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        message = f"the server answered HTTP {status}: is that the API port, by default 8000?"
    raise CliError(message)


def _print_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    out, note = stdout(), stderr()
    for file in manifest["files"]:
        out.print(f"{folder / file['name']}: {file['rows']:,} rows, {file['bytes']:,} bytes", soft_wrap=True)
    ledger = manifest["ledger"]
    out.print(
        f"as of commit {ledger['commit_id']} ({ledger['recorded_at']}), {manifest['decisions']:,} decisions"
    )
    for reason, count in manifest["left_out"].items():
        out.print(f"left out, {reason}: {count:,}")
    if manifest["format"] in {"openai-chat", "preference"} and manifest["rows"] < _LEAST_FOR_OPENAI:
        note.print(f"OpenAI fine-tunes on {_LEAST_FOR_OPENAI} examples or more.")
