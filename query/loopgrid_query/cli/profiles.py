"""Profiles: servers and keys by name, in a file that only its owner reads.

Laws:

* A key goes to the server that its profile names, and to no other.
* A key is never printed, and a file with one that others may read is not used.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from loopgrid.config import DEFAULT_ENDPOINT, checked_endpoint
from loopgrid.errors import Misconfigured
from loopgrid_query.cli.errors import CliError
from loopgrid_query.nearest import did_you_mean

VARIABLE: Final = "LOOPGRID_PROFILE"

chosen: ContextVar[str | None] = ContextVar("profile", default=None)
"""The profile that ``--profile`` names in the command under way."""

_VERSION: Final = 1
_MAX_FILE_BYTES: Final = 2**20
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Profile:
    """A server, and the key for it.

    Attributes:
        endpoint: its URL.
        api_key: sent to it, and nowhere else; None where it needs none.
    """

    endpoint: str
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a command goes.

    Attributes:
        endpoint: URL of the server.
        api_key: sent with each request; None for none.
        source: what named the server, for messages.
    """

    endpoint: str
    api_key: str | None = field(repr=False)
    source: str


@dataclass(slots=True)
class Profiles:
    """All profiles of one user.

    Attributes:
        by_name: the profiles.
        current: the one that is used where nothing else names a server.
    """

    by_name: dict[str, Profile] = field(default_factory=dict)
    current: str | None = None

    def named(self, name: str) -> Profile:
        """A profile.

        Raises:
            CliError: there is none of that name.
        """
        if name not in self.by_name:
            hint = did_you_mean(name, self.by_name) if self.by_name else "loopgrid profiles add makes one."
            raise CliError(f"there is no profile {name!r}; {hint}")
        return self.by_name[name]


def path(environ: Mapping[str, str]) -> Path:
    """The file with the profiles, in the user's folder for settings."""
    named = environ.get("XDG_CONFIG_HOME") or ""
    # A relative path there is to be ignored, says the XDG specification.
    folder = (
        Path(named) if named.startswith("/") else Path(environ.get("HOME") or "~").expanduser() / ".config"
    )
    return folder / "loopgrid" / "profiles.json"


def read(file: Path) -> Profiles:
    """The profiles of a file; none where there is no file.

    Raises:
        CliError: it cannot be read, is none of ours, or holds a key and is open to others.
    """
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(_MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return Profiles()
    except OSError as error:
        raise CliError(f"cannot read the profiles in {file}: {error.strerror}.") from error
    try:
        found = _understood(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, Misconfigured) as error:
        raise CliError(f"{file} holds no profiles of this version; mend it, or move it away.") from error
    if mode & _OTHERS and any(profile.api_key for profile in found.by_name.values()):
        raise CliError(
            f"other users of this machine may read the keys in {file}: run chmod 600 on it, and rotate the "
            "keys (loopgrid keys rotate) if others could have seen them."
        )
    return found


def _understood(content: Any) -> Profiles:
    if content["version"] != _VERSION:
        raise ValueError("another version")
    by_name = {
        str(name): Profile(checked_endpoint(one["endpoint"]), one.get("api_key"))
        for name, one in content["profiles"].items()
    }
    current = content.get("current")
    return Profiles(by_name, current if current in by_name else None)


def write(file: Path, profiles: Profiles) -> None:
    """Replaces the file, whole or not at all; nobody but its owner may read it, from its first byte.

    Raises:
        CliError: it cannot be written.
    """
    content = {
        "version": _VERSION,
        "current": profiles.current,
        "profiles": {
            name: {"endpoint": one.endpoint} | ({"api_key": one.api_key} if one.api_key else {})
            for name, one in sorted(profiles.by_name.items())
        },
    }
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            json.dump(content, opened, ensure_ascii=False, indent=2)
            opened.write("\n")
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(file)
    except OSError as error:
        raise CliError(f"cannot write the profiles to {file}: {error.strerror}.") from error
    finally:
        new.unlink(missing_ok=True)


def server(endpoint: str | None, environ: Mapping[str, str]) -> Server:
    """Where a command goes: by its options, else the environment, else the profile in use, else the default.

    The key is that of ``LOOPGRID_API_KEY``, else that of a profile of the same server. ``--profile`` takes
    server and key from the profile, whatever the environment says.

    Args:
        endpoint: what ``--endpoint`` names; None if it was left out.
        environ: the environment.

    Raises:
        CliError: two servers are named at the same level, or the profiles cannot be used.
        Misconfigured: the address is no URL.
    """
    flag = chosen.get()
    if flag is not None:
        if endpoint is not None:
            raise CliError("--endpoint and --profile name two servers; give one of them.")
        profile = read(path(environ)).named(flag)
        return Server(profile.endpoint, profile.api_key, f"the profile {flag}")
    variable, key = environ.get("LOOPGRID_ENDPOINT") or None, environ.get("LOOPGRID_API_KEY") or None
    if endpoint is not None or (variable is not None and not environ.get(VARIABLE)):
        address, source = (
            (endpoint, "--endpoint") if endpoint is not None else (variable, "LOOPGRID_ENDPOINT")
        )
        address = checked_endpoint(str(address))
        return Server(address, key or _key_for(address, environ), source)
    profiles = read(path(environ))
    name = environ.get(VARIABLE) or profiles.current
    if name is None:
        return Server(DEFAULT_ENDPOINT, key, "the default")
    profile = profiles.named(name)
    if variable is not None and checked_endpoint(variable) != profile.endpoint:
        raise CliError(f"LOOPGRID_ENDPOINT and {VARIABLE} name two servers; unset one of them.")
    return Server(profile.endpoint, key or profile.api_key, f"the profile {name}")


def _key_for(endpoint: str, environ: Mapping[str, str]) -> str | None:
    """The key of the profile in use, if that is the profile of this server."""
    profiles = read(path(environ))
    name = environ.get(VARIABLE) or profiles.current
    profile = profiles.by_name.get(name) if name else None
    return profile.api_key if profile is not None and profile.endpoint == endpoint else None
