"""``loopgrid reviews``: make review queues, see how far they are and how far reviewers agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from loopgrid_query.cli.connection import AsJson, Connection, Endpoint, example
from loopgrid_query.cli.console import Column, print_json, print_sheet, print_table, stderr, stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.nearest import did_you_mean

app = typer.Typer(
    help="Make review queues, and see how far they are.", no_args_is_help=True, rich_markup_mode=None
)

_REVIEWS: Final = "/v1/reviews"
Queue = Annotated[str, typer.Argument(help="Name or id of the queue.")]
AsReviewer = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who you are, where no API key says it.")
]
_COLUMNS: Final = (
    Column("name", least=12),
    Column("answers", least=9),
    Column("status", least=6),
    Column("method", least=8),
    Column("reviewers", least=10),
    Column("review_id", least=36, whole=True),
)


def path_of(review_id: str) -> str:
    """The address of a queue."""
    return f"{_REVIEWS}/{quote(review_id, safe='')}"


def found(connection: Connection, queue: str) -> dict[str, Any]:
    """The queue of that id or name; of several with the name the open one, else the newest.

    Raises:
        CliError: there is none.
    """
    items: list[dict[str, Any]] = connection.json("GET", _REVIEWS)["items"]
    named = [item for item in items if queue in (item["review_id"], item["name"])]
    if not named:
        known = [item["name"] for item in items]
        hint = did_you_mean(queue, known) if known else "make one with: loopgrid reviews create"
        raise CliError(f"there is no review queue {queue!r}; {hint}")
    return next((item for item in named if item["status"] == "open"), named[0])


@app.command(
    epilog=example(
        "loopgrid reviews create 'week 12' --filter decision_type=reply", "--sample random --size 50"
    )
)
def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="NAME=VALUE",
            help="As `decisions list` filters, e.g. metadata.tier=gold; repeatable.",
        ),
    ] = None,
    sample: Annotated[
        str, typer.Option(help="newest, random, stratified, disagreement or low_confidence.")
    ] = "newest",
    size: Annotated[int, typer.Option(min=1, help="Decisions at most.")] = 50,
    seed: Annotated[str | None, typer.Option(help="Draws the same sample again.")] = None,
    by: Annotated[str | None, typer.Option(help="stratified: the field that makes the groups.")] = None,
    confidence: Annotated[
        str | None, typer.Option(help="low_confidence: where it stands, as in output.score.")
    ] = None,
    below: Annotated[float | None, typer.Option(help="low_confidence: only less than that.")] = None,
    reviewers: Annotated[int, typer.Option(min=1, help="Independent answers for each decision.")] = 1,
    lease_s: Annotated[int, typer.Option(min=1, help="Seconds a decision is held for a reviewer.")] = 1800,
    reviewer: AsReviewer = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Choose decisions for people to judge. They are chosen now, and stay those."""
    how = {"method": sample, "size": size, "seed": seed, "by": by, "confidence": confidence, "below": below}
    body = {
        "name": name,
        "filters": dict(_pair(word) for word in filters or []),
        "sample": {key: value for key, value in how.items() if value is not None},
        "reviewers_per_item": reviewers,
        "lease_s": lease_s,
        "created_by": reviewer,
    }
    with Connection(endpoint) as connection:
        made = connection.json("POST", _REVIEWS, body)
    if as_json:
        print_json(made)
        return
    items, seen = made["progress"]["items"], made["selection"]["found"]
    stdout().print(
        f"{items} of {seen} decisions are queued. Review them with: loopgrid review {made['review_id']}",
        soft_wrap=True,
    )


@app.command("list", epilog=example("loopgrid reviews list"))
def list_reviews(endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List review queues, newest first."""
    with Connection(endpoint) as connection:
        items = connection.json("GET", _REVIEWS)["items"]
    if as_json:
        print_json(items)
        return
    if not items:
        stderr().print("There is no review queue; make one with: loopgrid reviews create")
        return
    rows = [
        (
            item["name"],
            f"{item['progress']['answers']}/{item['progress']['answers_wanted']}",
            item["status"],
            item["selection"]["method"],
            ", ".join(one["reviewer"] for one in item["progress"]["reviewers"]),
            item["review_id"],
        )
        for item in items
    ]
    out = stdout()
    print_table(out, _COLUMNS, rows)


@app.command(epilog=example("loopgrid reviews show 'week 12'"))
def show(queue: Queue, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show a review queue: how it was chosen, how far it is, who did what."""
    with Connection(endpoint) as connection:
        item = found(connection, queue)
    if as_json:
        print_json(item)
        return
    print_sheet(stdout(), _lines(item))


@app.command(epilog=example("loopgrid reviews close 'week 12'"))
def close(
    queue: Queue, reviewer: AsReviewer = None, endpoint: Endpoint = None, as_json: AsJson = False
) -> None:
    """End a review queue. What was answered stays."""
    with Connection(endpoint) as connection:
        who = {} if reviewer is None else {"reviewer": reviewer}
        made = connection.json("POST", f"{path_of(found(connection, queue)['review_id'])}/close", who)
    if as_json:
        print_json(made)
        return
    progress = made["progress"]
    stdout().print(
        f"Closed with {progress['answers']} of {progress['answers_wanted']} answers: {made['review_id']}",
        soft_wrap=True,
    )


@app.command(epilog=example("loopgrid reviews agreement 'week 12'"))
def agreement(queue: Queue, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show how far the reviewers of a queue agree, on verdicts and on fields of outputs."""
    with Connection(endpoint) as connection:
        told = connection.json("GET", f"{path_of(found(connection, queue)['review_id'])}/agreement")
    if as_json:
        print_json(told)
        return
    out = stdout()
    columns = (
        Column("of", least=10),
        Column("items", right=True, least=5),
        Column("raters", right=True, least=6),
        Column("same", right=True, least=5),
        Column("Cohen", right=True, least=6),
        Column("Fleiss", right=True, least=6),
        Column("alpha", right=True, least=6),
    )
    rows = [_measures("verdict", told["verdict"])]
    rows += [_measures(f"output {name}", one) for name, one in told["fields"].items()]
    print_table(out, columns, rows)
    note = stderr()
    note.print(f"Counted: {told['basis']}. A dash stands where a measure is not defined; --json says why.")


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals):
        raise CliError(f"cannot read --filter {word!r}; write name=value, as in decision_type=reply.")
    return name, value


def _lines(item: Mapping[str, Any]) -> list[tuple[str, str]]:
    progress, selection = item["progress"], item["selection"]
    chosen = ", ".join(f"{name} {value}" for name, value in selection.items() if value not in (None, {}))
    lines = [
        ("name", item["name"]),
        ("review_id", item["review_id"]),
        ("status", item["status"]),
        ("chosen", chosen),
        ("decisions", f"{progress['items']}, {progress['complete']} complete"),
        ("answers", f"{progress['answers']} of {progress['answers_wanted']}"),
    ]
    for one in progress["reviewers"]:
        told = f"{one['answered']} answered, {one['skipped']} skipped, holds {one['holding']}"
        lines.append((one["reviewer"], told))
    return lines


def _measures(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    cohen = one["cohens_kappa"]
    # Of more than two reviewers there is one for each pair, which --json tells.
    shown = [
        one["raw_agreement"],
        cohen[0] if len(cohen) == 1 else {"value": None},
        one["fleiss_kappa"],
        one["krippendorff_alpha"],
    ]
    values = ("–" if found["value"] is None else f"{found['value']:.2f}" for found in shown)
    return (name, str(one["items"]), str(one["raters"]), *values)
