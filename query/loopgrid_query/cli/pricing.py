"""``loopgrid prices``: price books, from which the view ``costs`` tells what decisions cost."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loopgrid_query.cli import price_lists
from loopgrid_query.cli.connection import AsJson, Connection, Endpoint, example
from loopgrid_query.cli.console import Column, print_json, print_table, stdout
from loopgrid_query.cli.errors import CliError

app = typer.Typer(help="What models cost.", no_args_is_help=True, rich_markup_mode=None)

_PRICES: Final = "/v1/prices"
_COLUMNS: Final = (
    Column("model", least=12),
    Column("provider", least=8),
    Column("input", right=True),
    Column("output", right=True),
    Column("cache read", right=True),
    Column("cache write", right=True),
    Column("above", right=True),
    Column("valid from"),
    Column("source", least=12),
)
_SHOWN: Final = (
    "model", "provider", "input_usd", "output_usd", "cache_read_usd", "cache_write_usd", "above_input_tokens",
    "valid_from", "source",
)  # fmt: skip


@app.command("import", epilog=example("loopgrid prices import --list", "loopgrid prices import prices.json"))
def import_prices(
    file: Annotated[
        Path | None,
        typer.Argument(
            help='JSON: {"source": …, "prices": [{"model": …, "input_usd": …, "output_usd": …}]}.'
        ),
    ] = None,
    from_list: Annotated[
        bool,
        typer.Option("--list", help="Take them from the public list of genai-prices, for models on record."),
    ] = False,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Append a price book: US dollars per million tokens. Costs of past decisions show it at once.

    A newer book goes before an older one, price by price; no book is ever changed.
    """
    if (file is None) is not from_list:
        raise CliError("give a file, or --list for the public list; one of them.")
    with Connection(endpoint) as connection:
        book = _read(file) if file is not None else _listed(connection)
        made = connection.json("POST", _PRICES, book)
    if as_json:
        print_json(made)
        return
    stdout().print(f"Price book appended: {made['book_id']} ({made['prices']} prices)", soft_wrap=True)


@app.command("list", epilog=example("loopgrid prices list"))
def list_prices(endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show all prices on record, in US dollars per million tokens."""
    with Connection(endpoint) as connection:
        items = connection.json("GET", _PRICES)["items"]
    if as_json:
        print_json(items)
        return
    out = stdout()
    rows = [["" if item[name] is None else str(item[name]) for name in _SHOWN] for item in items]
    print_table(out, _COLUMNS, rows)


@app.command(epilog=example("loopgrid prices unpriced"))
def unpriced(endpoint: Endpoint = None, as_json: AsJson = False) -> int:
    """Show the models on record that no price fits. Their cost is unknown, not zero.

    The exit code is 1 if there are any.
    """
    with Connection(endpoint) as connection:
        items = _unpriced(connection)
    if as_json:
        print_json(items)
    elif items:
        out = stdout()
        columns = (Column("model", least=12), Column("provider", least=8), Column("calls", right=True))
        rows = [[str(_model(item)), item["model_provider"] or "", str(item["model_calls"])] for item in items]
        print_table(out, columns, rows)
    else:
        stdout().print("Every model on record has a price.")
    return 1 if items else 0


def _unpriced(connection: Connection) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = connection.json("GET", f"{_PRICES}/unpriced")["items"]
    return items


def _model(item: dict[str, Any]) -> str:
    """The model that answered, because that is the one that is billed."""
    return str(item["model_response_name"] or item["model_name"])


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {file}: {error}; check the path.") from error
    except ValueError as error:
        raise CliError(f"{file} is not JSON ({error}).") from error


def _listed(connection: Connection) -> dict[str, Any]:
    wanted = {(item["model_provider"], _model(item)) for item in _unpriced(connection)}
    if not wanted:
        raise CliError("every model on record has a price already; nothing was appended.")
    prices = [
        price
        for provider, model in sorted(wanted, key=str)
        for price in price_lists.prices_of(provider, model)
    ]
    if not prices:
        raise CliError(
            "the list knows none of the models that lack a price; see them with loopgrid prices unpriced, "
            "and write a book yourself."
        )
    return {"source": f"genai-prices {metadata.version('genai-prices')}", "prices": prices}
