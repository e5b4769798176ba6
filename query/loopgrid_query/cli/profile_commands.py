"""``loopgrid profiles``: names for servers and their keys."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Final

import typer

from loopgrid.config import checked_endpoint
from loopgrid_query.cli import profiles
from loopgrid_query.cli.connection import AsJson, example
from loopgrid_query.cli.console import Column, print_json, print_table, stderr, stdout
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.profiles import Profile

app = typer.Typer(
    help="Names for servers and their keys.\n\n"
    "A command goes to the server of --endpoint or --profile, else of LOOPGRID_ENDPOINT or LOOPGRID_PROFILE, "
    "else of the profile in use, else to http://127.0.0.1:8000.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_MAX_KEY_CHARS: Final = 4096


def names() -> list[str]:
    """Names of all profiles, for completion: none where they cannot be read."""
    try:
        return sorted(profiles.read(profiles.path(os.environ)).by_name)
    except CliError:
        return []


Name = Annotated[str, typer.Argument(help="Name of the profile.", autocompletion=names)]


@app.command(
    epilog=example("loopgrid profiles add staging", "--endpoint https://loopgrid.example.com --with-key")
)
def add(
    name: Annotated[str, typer.Argument(help="Name of the profile.")],
    endpoint: Annotated[str, typer.Option("--endpoint", metavar="URL", help="The server.")],
    with_key: Annotated[
        bool,
        typer.Option(
            "--with-key", help="Ask for the server's API key, or read it from stdin where that is a pipe."
        ),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a profile of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a server a name. Its key is no option: those are seen by other users and the shell's history."""
    file = profiles.path(os.environ)
    found = profiles.read(file)
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise CliError(f"{name!r} is no name for a profile; write a word, as in staging.")
    if name in found.by_name and not replace:
        raise CliError(f"there is a profile {name!r} already; --replace replaces it.")
    found.by_name[name] = Profile(checked_endpoint(endpoint), _asked_key() if with_key else None)
    profiles.write(file, found)
    if as_json:
        print_json(_record(name, found))
        return
    stdout().print(f"Added: {name}. In use from now on with: loopgrid profiles use {name}", soft_wrap=True)


@app.command("list", epilog=example("loopgrid profiles list"))
def list_profiles(as_json: AsJson = False) -> None:
    """List all profiles. Keys are not shown."""
    found = profiles.read(profiles.path(os.environ))
    items = [_record(name, found) for name in sorted(found.by_name)]
    if as_json:
        print_json({"items": items})
        return
    if not items:
        stderr().print("There are no profiles; make one with: loopgrid profiles add")
        return
    columns = [Column("name", whole=True), Column("endpoint", least=20), Column("key"), Column("in use")]
    rows = [
        (one["name"], one["endpoint"], "yes" if one["has_key"] else "", "yes" if one["current"] else "")
        for one in items
    ]
    print_table(stdout(), columns, rows)


@app.command(epilog=example("loopgrid profiles use staging"))
def use(
    name: Annotated[
        str | None, typer.Argument(help="Name of the profile; none with --none.", autocompletion=names)
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Use none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send commands to this server, where neither option nor environment names another."""
    if none == (name is not None):
        raise CliError("name the profile to use, or give --none.")
    file = profiles.path(os.environ)
    found = profiles.read(file)
    if name is not None:
        found.named(name)
    found.current = name
    profiles.write(file, found)
    if as_json:
        print_json({"current": name})
        return
    stdout().print(f"In use: {name}" if name else "No profile is in use.", soft_wrap=True)


@app.command(epilog=example("loopgrid profiles remove staging"))
def remove(name: Name, as_json: AsJson = False) -> None:
    """Forget a profile and its key. The key stays good on the server: loopgrid keys revoke ends it."""
    file = profiles.path(os.environ)
    found = profiles.read(file)
    found.named(name)
    removed = _record(name, found)
    del found.by_name[name]
    found.current = None if found.current == name else found.current
    profiles.write(file, found)
    if as_json:
        print_json(removed)
        return
    stdout().print(f"Removed: {name}", soft_wrap=True)


def _record(name: str, found: profiles.Profiles) -> dict[str, Any]:
    one = found.by_name[name]
    return {
        "name": name,
        "endpoint": one.endpoint,
        "has_key": one.api_key is not None,
        "current": name == found.current,
    }


def _asked_key() -> str:
    if sys.stdin.isatty():
        key = str(typer.prompt("API key", hide_input=True, err=True)).strip()
    else:
        key = sys.stdin.readline(_MAX_KEY_CHARS).strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise CliError("that is no API key: it is one word, as loopgrid keys create prints it.")
    return key


def offer_profiles(command: Any) -> None:
    """Gives ``--profile`` to a command and to all below it that talk to a server (have ``--endpoint``)."""
    for below in getattr(command, "commands", {}).values():
        offer_profiles(below)
    names_of_options = [parameter.name for parameter in command.params]
    # A profile is made for an address; there, --endpoint is what it is for.
    if "endpoint" in names_of_options and command.name != "add":
        command.params.insert(names_of_options.index("endpoint") + 1, _option())


def _option() -> Any:
    """The option as the library builds it."""
    carrier = typer.Typer(add_completion=False)
    carrier.command()(_carry)
    (option,) = (each for each in typer.main.get_command(carrier).params if each.name == "profile")
    return option


def _chosen(name: str | None) -> None:
    profiles.chosen.set(name)


def _carry(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            callback=_chosen,
            expose_value=False,
            autocompletion=names,
            help=f"Server and key, as loopgrid profiles list has them.  [env: {profiles.VARIABLE}]",
        ),
    ] = None,
) -> None:
    """Carries the option; never run."""
    _chosen(profile)
