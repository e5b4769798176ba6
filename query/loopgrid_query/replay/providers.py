"""Whom the server may ask for model replays: one file, read once.

    [openai]                                  # as decisions name the provider
    api_key_env = "OPENAI_API_KEY"            # or api_key_file = "/run/secrets/openai"

    [deepseek]
    base_url = "https://api.deepseek.com/v1"
    api_key_env = "DEEPSEEK_API_KEY"
    requests_per_minute = 60                  # what the account allows

A key is in neither this file nor the ledger nor a log.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from loopgrid_collector.errors import Misconfigured
from loopgrid_query.nearest import did_you_mean
from loopgrid_query.replay.request import ANTHROPIC, OPENAI, PROTOCOLS

VARIABLE: Final = "LOOPGRID_PROVIDERS"
_BASE_URLS: Final = {OPENAI: "https://api.openai.com/v1", ANTHROPIC: "https://api.anthropic.com"}
"""Where providers are that need no base_url."""
_TEXTS: Final = ("protocol", "base_url", "api_key_env", "api_key_file")
_WHOLE: Final = ("max_attempts", "concurrency", "requests_per_minute", "tokens_per_minute")
"""Settings that count something."""
_NUMBERS: Final = ("timeout_s", "max_retry_wait_s", *_WHOLE)
_SCHEMES: Final = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    Attributes:
        name: as decisions name it.
        protocol: what it speaks, one of ``PROTOCOLS``.
        base_url: where it is reached.
        api_key: its key; None for a server that asks for none.
        timeout_s: seconds in which one attempt must be answered whole.
        max_attempts: how often one call is tried, at most.
        max_retry_wait_s: longest pause between two attempts; a provider that asks for a longer one is not
            asked again.
        concurrency: requests under way at once; None for as many as the server makes.
        requests_per_minute: requests sent in a minute, repetitions included; None for no limit.
        tokens_per_minute: tokens read and written in a minute; None for no limit.
    """

    name: str
    protocol: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    max_attempts: int = 4
    max_retry_wait_s: float = 60.0
    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class Providers(Mapping[str, Provider]):
    """Providers by name."""

    def __init__(self, providers: Mapping[str, Provider] | None = None) -> None:
        """Those given; none if left out."""
        self._providers = dict(providers or {})

    def __getitem__(self, name: str) -> Provider:
        return self._providers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._providers)

    def __len__(self) -> int:
        return len(self._providers)

    @classmethod
    def read(cls, path: str, environ: Mapping[str, str]) -> Providers:
        """Those of a file; none where no file is named.

        Args:
            path: the setting; empty for none.
            environ: usually ``os.environ``, for the keys that it names.

        Raises:
            Misconfigured: the file cannot be read or says something that cannot be; a key is never repeated.
        """
        if not path:
            return cls()
        try:
            tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{VARIABLE} names {path}, which cannot be read: {error}.") from error
        except tomllib.TOMLDecodeError as error:
            raise Misconfigured(f"{path} ({VARIABLE}) is no TOML: {error}.") from error
        return cls(
            {name: _provider(name, table, f"{path}, [{name}]", environ) for name, table in tables.items()}
        )


def protocol_of(name: str) -> str:
    """What a provider speaks unless the file says otherwise."""
    return ANTHROPIC if name == ANTHROPIC else OPENAI


def _provider(name: str, table: Any, where: str, environ: Mapping[str, str]) -> Provider:
    if not isinstance(table, dict):
        raise Misconfigured(f"{where} is no table; write [{name}] and what belongs to it below.")
    for key, value in table.items():
        _check(key, value, where)
    protocol = table.get("protocol", protocol_of(name))
    if protocol not in PROTOCOLS:
        raise Misconfigured(f"{where}: protocol is {protocol!r}; write {' or '.join(PROTOCOLS)}.")
    base_url = table.get("base_url", _BASE_URLS.get(name))
    if base_url is None:
        raise Misconfigured(f'{where}: base_url is missing, as in base_url = "https://…/v1".')
    _check_url(base_url, where)
    numbers = {key: table[key] for key in _NUMBERS if key in table}
    return Provider(name, protocol, base_url.rstrip("/"), _key(table, where, environ), **numbers)


def _check(key: str, value: Any, where: str) -> None:
    if key == "api_key":
        raise Misconfigured(
            f"{where}: api_key holds a secret in plain sight. Name the variable that has it (api_key_env), "
            "or a file (api_key_file)."
        )
    if key not in (*_TEXTS, *_NUMBERS):
        raise Misconfigured(f"{where}: there is no setting {key}; {did_you_mean(key, (*_TEXTS, *_NUMBERS))}.")
    if key in _TEXTS and not (isinstance(value, str) and value):
        raise Misconfigured(f"{where}: {key} must be text.")
    if key in _NUMBERS:
        number = isinstance(value, int if key in _WHOLE else int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            kind = "whole number" if key in _WHOLE else "number"
            less = " Leave it out for no limit." if key in _WHOLE[1:] else ""
            raise Misconfigured(f"{where}: {key} must be a {kind} greater than 0.{less}")


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Misconfigured(f"{where}: base_url must begin with https:// or http:// and name a host.")
    if parts.username is not None or parts.query or parts.fragment:
        raise Misconfigured(f"{where}: base_url may hold no user, no query and no fragment.")


def _key(table: Mapping[str, Any], where: str, environ: Mapping[str, str]) -> str | None:
    if "api_key_env" in table and "api_key_file" in table:
        raise Misconfigured(f"{where}: write api_key_env or api_key_file, not both.")
    if "api_key_env" in table:
        key = environ.get(table["api_key_env"], "").strip()
        source = f"the variable {table['api_key_env']}"
    elif "api_key_file" in table:
        source = f"the file {table['api_key_file']}"
        try:
            key = Path(table["api_key_file"]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{where}: {source} cannot be read.") from error
    else:
        return None
    if not key or not key.isascii() or not key.isprintable():
        raise Misconfigured(f"{where}: {source} holds no key.")
    return key
