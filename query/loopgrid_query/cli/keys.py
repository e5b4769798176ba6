"""``loopgrid keys``: who may do what on a server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol
from urllib.parse import quote

import typer

from loopgrid_query.cli.connection import AsJson, Connection, Endpoint, example
from loopgrid_query.cli.console import Column, print_json, print_table, stderr, stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.settings import read_settings

if TYPE_CHECKING:
    from loopgrid_query.keys import Keys

app = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)

Ledger = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Work on this ledger's file, which no server has open, in place of a running server. A new file "
        "is made where there is none. This is how the first key is made.",
    ),
]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The middle part of the key.")]

_EXAMPLE_KEY_ID: Final = "1f0c5b7a9d3e2468"
_SPAN: Final = re.compile(r"(\d{1,5})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Home(Protocol):
    """Where keys are kept: a running server, or a ledger's file."""

    def list(self) -> list[dict[str, Any]]: ...
    def create(self, wanted: dict[str, Any]) -> dict[str, Any]: ...
    def rotate(self, key_id: str, old_valid_for_s: int) -> dict[str, Any]: ...
    def revoke(self, key_id: str) -> dict[str, Any]: ...


@app.command(epilog=example("loopgrid keys create --name 'support agent'", "--scope ingest --expires 90d"))
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[
        list[str],
        typer.Option(metavar="SCOPE", help="ingest, read, review, replay, or admin for all. Repeatable."),
    ],
    person: Annotated[
        str | None, typer.Option(help="Who uses it; named in the marks and corrections made with it.")
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only take decisions of this service; needs ingest as only scope. Repeatable.",
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 90d, 12h, or a time as 2027-01-31T00:00:00Z.")
    ] = None,
    ledger: Ledger = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once; the ledger keeps a digest of it."""
    wanted: dict[str, Any] = {"name": name, "scopes": scope}
    if person is not None:
        wanted["person"] = person
    if service:
        wanted["services"] = service
    if expires is not None:
        wanted["expires_at"] = _moment(expires)
    with _home(ledger, endpoint) as home:
        _show_made(home.create(wanted), as_json=as_json)


@app.command("list", epilog=example("loopgrid keys list"))
def list_keys(ledger: Ledger = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List every key there ever was, oldest first."""
    with _home(ledger, endpoint) as home:
        keys = home.list()
    if as_json:
        print_json({"items": keys})
        return
    out = stdout()
    columns = [
        Column("key_id", whole=True),
        Column("name"),
        Column("status"),
        Column("scopes"),
        Column("person"),
        Column("services"),
        Column("expires_at"),
    ]
    rows = [[_cell(key[column.name]) for column in columns] for key in keys]
    print_table(out, columns, rows)


@app.command(epilog=example(f"loopgrid keys rotate {_EXAMPLE_KEY_ID} --keep-old 1h"))
def rotate(
    key_id: KeyId,
    keep_old: Annotated[str, typer.Option(help="How long the old key is still good: 0s, 1h, 7d.")] = "0s",
    ledger: Ledger = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Make a key with the rights of another, which is revoked."""
    with _home(ledger, endpoint) as home:
        _show_made(home.rotate(key_id, _seconds(keep_old, "--keep-old")), as_json=as_json)


@app.command(epilog=example(f"loopgrid keys revoke {_EXAMPLE_KEY_ID}"))
def revoke(key_id: KeyId, ledger: Ledger = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Refuse a key from now on. It stays in the list."""
    with _home(ledger, endpoint) as home:
        key = home.revoke(key_id)
    if as_json:
        print_json(key)
        return
    stdout().print(f"Revoked: {key['key_id']}", soft_wrap=True)


def _show_made(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    # The key alone on stdout, so that it can go straight into a secret store.
    stderr().print("The key, which nothing shows again; applications read it from LOOPGRID_API_KEY:")
    stdout().print(made["key"], soft_wrap=True)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return "" if value is None else str(value)


def _seconds(text: str, option: str) -> int:
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise CliError(f"{option} {text!r} is no span of time; write 30m, 12h or 90d.")
    return int(found[1]) * _SECONDS[found[2]]


def _moment(text: str) -> str:
    if _SPAN.fullmatch(text.strip()) is None:
        return text
    return (datetime.now(UTC) + timedelta(seconds=_seconds(text, "--expires"))).isoformat(timespec="seconds")


@contextmanager
def _home(ledger: str | None, endpoint: str | None) -> Iterator[_Home]:
    if ledger is None:
        with Connection(endpoint) as connection:
            yield _OnServer(connection)
        return
    if endpoint is not None:
        raise CliError("--ledger and --endpoint name two places for the keys; give one of them.")
    # Imported late: DuckDB takes a while that no other command shall wait.
    from loopgrid_collector.guard import Guard
    from loopgrid_collector.ledger.ledger import Ledger as OpenLedger
    from loopgrid_query.keys import Keys

    config = read_settings(ledger=ledger)
    opened = OpenLedger.open(config.ledger, config)
    try:
        yield _OnFile(Keys(Guard(opened)))
    finally:
        opened.close()


class _OnServer:
    """Keys of a running server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._asked("GET", "/v1/keys")["items"]
        return items

    def create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return self._asked("POST", "/v1/keys", wanted)

    def rotate(self, key_id: str, old_valid_for_s: int) -> dict[str, Any]:
        body = {"old_valid_for_s": old_valid_for_s}
        return self._asked("POST", f"/v1/keys/{quote(key_id, safe='')}/rotate", body)

    def revoke(self, key_id: str) -> dict[str, Any]:
        return self._asked("DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        sent = None if body is None else json.dumps(body).encode()
        answer = self._connection.request(method, path, sent)
        try:
            told = json.loads(answer.body)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise CliError(f"{path} answered {answer.status} without JSON; is that LoopGrid's API port?")
        if answer.status not in (200, 201):
            raise CliError(
                str(told.get("detail") or told.get("title") or f"{path} answered {answer.status}.")
            )
        return told


class _OnFile:
    """Keys of a ledger that this process has open."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def list(self) -> list[dict[str, Any]]:
        return self._keys.list()

    def create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        from loopgrid_query.errors import QueryError
        from loopgrid_query.models import KeyRequest

        try:
            # pydantic's own error is a ValueError with one line a fault.
            return self._keys.create(KeyRequest.model_validate(wanted), None, on_file=True)
        except (QueryError, ValueError) as error:
            raise CliError(str(error)) from error

    def rotate(self, key_id: str, old_valid_for_s: int) -> dict[str, Any]:
        from loopgrid_query.errors import QueryError
        from loopgrid_query.models import KeyRotation

        try:
            return self._keys.rotate(key_id, KeyRotation(old_valid_for_s=old_valid_for_s), None)
        except (QueryError, ValueError) as error:
            raise CliError(str(error)) from error

    def revoke(self, key_id: str) -> dict[str, Any]:
        from loopgrid_query.errors import QueryError

        try:
            return self._keys.revoke(key_id, None)
        except QueryError as error:
            raise CliError(str(error)) from error
