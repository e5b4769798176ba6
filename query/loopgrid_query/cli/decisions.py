"""``loopgrid decisions``: find decisions, and see one whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from loopgrid_query.cli.connection import EXAMPLE_ID, AsJson, Connection, Endpoint, client, example
from loopgrid_query.cli.console import (
    Arrivals,
    Column,
    print_json,
    print_json_line,
    print_sheet,
    print_table,
    stderr,
    stdout,
)
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.following import Follower, follow
from loopgrid_query.cli.gist import gist, leaves, whole

app = typer.Typer(help="Find decisions, and see one whole.", no_args_is_help=True, rich_markup_mode=None)

# In the order of their weight: a narrow terminal keeps the first ones.
_COLUMNS: Final = (
    Column("decision_id", least=49, whole=True),
    Column("output", least=14),
    Column("judged", least=9),
    Column("decision_type", least=14),
    Column("model", least=14),
    Column("prompt", least=10),
    Column("input", least=24),
    Column("started_at", least=19),
)
_SHOWN_FIRST: Final = (
    "decision_type",
    "kind",
    "service_name",
    "status",
    "started_at",
    "duration_ms",
    "prompt",
    "model",
    "input",
    "output",
    "ground_truth",
    "error",
    "usage",
)
_SHOWN_NEVER: Final = frozenset({"decision_id", "trace_id", "span_id"})


@app.command("list", epilog=example("loopgrid decisions list --incorrect --prompt-version 1"))
def list_decisions(
    endpoint: Endpoint = None,
    service_name: Annotated[str | None, typer.Option(help="Service that decided.")] = None,
    decision_type: Annotated[str | None, typer.Option(help="Which decision it is.")] = None,
    model: Annotated[str | None, typer.Option(help="Model that was asked for.")] = None,
    prompt_name: Annotated[str | None, typer.Option(help="Name of the prompt.")] = None,
    prompt_version: Annotated[str | None, typer.Option(help="Version of the prompt.")] = None,
    kind: Annotated[str | None, typer.Option(help="decision or inference.")] = None,
    status: Annotated[str | None, typer.Option(help="ok or error.")] = None,
    session_id: Annotated[str | None, typer.Option(help="Conversation or session.")] = None,
    user_id: Annotated[str | None, typer.Option(help="End user.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Started at or after, as in 2026-01-31T12:00:00Z.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Started before.")] = None,
    incorrect: Annotated[
        bool | None, typer.Option("--incorrect/--not-incorrect", help="Marked incorrect, or not.")
    ] = None,
    corrected: Annotated[
        bool | None, typer.Option("--corrected/--not-corrected", help="Has a correction, or not.")
    ] = None,
    q: Annotated[str | None, typer.Option("--q", help="Text to find in input or output.")] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A metadata value, as in tier=gold; repeatable."),
    ] = None,
    include_replays: Annotated[
        bool | None,
        typer.Option("--include-replays", help="Show the decisions that replays made, too."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Decisions on the page.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Page to go on with.")] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Go on and show decisions as they arrive, until Ctrl-C; oldest first."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List decisions, newest first.

    With --follow, decisions that arrive are shown in the order in which they were stored; --json then
    prints one line for each. What is said about a decision later does not show it again.
    """
    filters: dict[str, Any] = {
        "service_name": service_name,
        "decision_type": decision_type,
        "model": model,
        "prompt_name": prompt_name,
        "prompt_version": prompt_version,
        "kind": kind,
        "status": status,
        "session_id": session_id,
        "user_id": user_id,
        "from_": from_,
        "to": to,
        "incorrect": incorrect,
        "corrected": corrected,
        "q": q,
        "include_replays": include_replays,
        "limit": limit,
        "cursor": cursor,
        "metadata": _metadata(metadata or []),
    }
    if follow:
        _follow(endpoint, filters, as_json=as_json)
        return
    page = client(endpoint).list_decisions(**filters)
    if as_json:
        print_json(page)
        return
    _print_page(page)


@app.command("show", epilog=example("loopgrid decisions show", EXAMPLE_ID))
def show_decision(
    decision_id: Annotated[str, typer.Argument(help="Id of the decision.")],
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show one decision with its marks, corrections, replays and outcomes."""
    decision = client(endpoint).get_decision(decision_id)
    if as_json:
        print_json(decision)
        return
    print_sheet(stdout(), [("decision_id", decision["decision_id"]), *_lines(decision)])
    # The sheet shows what stands; what was taken back is in the history alone.
    stderr().print(f"Who said what, when: loopgrid history {decision_id}", soft_wrap=True)


def judged(decision: Mapping[str, Any]) -> Text:
    """What people have said about a decision, in a word or two."""
    words = Text()
    if decision.get("incorrect"):
        words.append("incorrect", "red")
    if decision.get("corrected"):
        words.append(", " if words else "").append("corrected", "green")
    return words


def prompt_label(prompt: Mapping[str, Any] | None) -> str:
    """Name and version of a prompt, as in "support v2"; "" where neither is known."""
    prompt = prompt or {}
    version = prompt.get("version")
    return " ".join(filter(None, [prompt.get("name"), f"v{version}" if version else None]))


def model_label(model: Mapping[str, Any] | None) -> str:
    """The model that was asked for, with its provider where known."""
    model = model or {}
    return "/".join(filter(None, [model.get("provider"), model.get("name")]))


def _metadata(words: list[str]) -> dict[str, str]:
    filters = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise CliError(f"cannot read --metadata {word!r}; write key=value, as in tier=gold.")
        filters[key] = value
    return filters


def _print_page(page: Mapping[str, Any]) -> None:
    out, note = stdout(), stderr()
    if not page["items"]:
        note.print("No decisions match.")
        return
    print_table(out, _COLUMNS, map(_row, page["items"]))
    if page.get("next_cursor"):
        note.print(f"There are more; go on with: --cursor {page['next_cursor']}", soft_wrap=True)


def _row(decision: Mapping[str, Any]) -> tuple[str | Text, ...]:
    return (
        decision["decision_id"],
        gist(decision.get("output")),
        judged(decision),
        decision.get("decision_type") or decision.get("kind") or "",
        model_label(decision.get("model")),
        prompt_label(decision.get("prompt")),
        gist(decision.get("input")),
        (decision.get("started_at") or "")[:19],
    )


def _follow(endpoint: str | None, filters: Mapping[str, Any], *, as_json: bool) -> None:
    if filters["cursor"] or filters["incorrect"] is not None or filters["corrected"] is not None:
        raise CliError(
            "--follow shows decisions as they arrive, before anybody judged them; leave out --cursor and the "
            "filters for marks and corrections."
        )
    arrivals = Arrivals(stdout(), _COLUMNS)

    def show(decisions: Sequence[Mapping[str, Any]]) -> None:
        if not as_json:
            arrivals.add(map(_row, decisions))
            return
        for decision in decisions:
            print_json_line(decision)

    with contextlib.suppress(KeyboardInterrupt), Connection(endpoint) as connection:
        follower = Follower(connection, _words(filters))
        page = client(endpoint).list_decisions(**filters)
        seen = list(reversed(page["items"]))
        show(seen)
        follow(
            follower,
            {decision["decision_id"] for decision in seen},
            show,
            lambda sentence: stderr().print(sentence, soft_wrap=True),
        )


def _words(filters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The filters as they stand in an address."""
    words = [
        (name.removesuffix("_"), str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in filters.items()
        if value is not None and name not in {"limit", "cursor", "metadata"}
    ]
    return [*words, *((f"metadata.{key}", value) for key, value in filters["metadata"].items())]


def _lines(decision: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of a decision, the most telling first; what is not known is left out."""
    names = [name for name in _SHOWN_FIRST if name in decision]
    names += [name for name in decision if name not in {*names, *_SHOWN_NEVER}]
    for name in names:
        value = decision[name]
        if name in _EVENTS:
            for event in value:
                yield name.removesuffix("s"), _EVENTS[name](event)
        elif name == "ground_truth" and value:
            yield from ((path, whole(leaf)) for path, leaf in leaves(value["output"], name).items())
        else:
            known = {path: leaf for path, leaf in leaves(value, name).items() if leaf not in (None, [], {})}
            yield from ((path, whole(leaf)) for path, leaf in known.items())


def _told_mark(mark: Mapping[str, Any]) -> str:
    return f"{mark['mark_id']} {_by(mark['marked_by'])}{mark['reason']}"


def _told_correction(correction: Mapping[str, Any]) -> str:
    said = correction.get("reason") or gist(correction["output"])
    return f"{correction['correction_id']} {_by(correction['corrected_by'])}{said}"


def _told_replay(replay: Mapping[str, Any]) -> str:
    outcome = replay.get("result_decision_id") or replay.get("reason") or ""
    overrides = json.dumps(replay["overrides"], ensure_ascii=False)
    return f"{replay['replay_id']} {replay['status']} with {overrides}: {outcome}"


def _told_outcome(outcome: Mapping[str, Any]) -> str:
    said = f"{_by(outcome['reported_by'])}{gist(outcome['outcome'])}"
    about = outcome["decisions"]
    shared = f" (one of {about} decisions with this key)" if about > 1 else ""
    return f"{outcome['outcome_id']} {outcome['key']} {outcome['value']} {said}{shared}"


def _by(person: str | None) -> str:
    return f"by {person}: " if person else ""


_EVENTS: Final = {
    "marks": _told_mark,
    "corrections": _told_correction,
    "replays": _told_replay,
    "outcomes": _told_outcome,
}
