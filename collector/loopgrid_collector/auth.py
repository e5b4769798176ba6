"""API keys: their form, what they may do, and whether one is good now. Pure but for the dice.

A key reads ``lg_<key_id>_<secret>``. The id is public and names the key in lists and in the access log;
the secret is 32 random bytes, and only a digest of it is kept (docs/adr/0013).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from loopgrid_collector.errors import Forbidden, Unauthenticated

PREFIX: Final = "lg"
SECRET_BYTES: Final = 32
_ID_BYTES: Final = 8
_DOMAIN: Final = b"loopgrid-key-v1\n"
MAX_TOKEN_CHARACTERS: Final = 200
"""A longer word is no key of ours, and is not hashed."""

_BEARER: Final = "bearer"
_HOW: Final = "Send Authorization: Bearer lg_…, or X-API-Key; `loopgrid keys create` makes a key."


class Scope(StrEnum):
    """What a key may do. ``admin`` may do everything."""

    INGEST = "ingest"
    READ = "read"
    REVIEW = "review"
    REPLAY = "replay"
    ADMIN = "admin"


class Standing(StrEnum):
    """Whether a key is good at a moment."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Key:
    """One API key, as the ledger knows it.

    Attributes:
        key_id: 16 hex digits, public.
        name: what it is for, as its maker called it.
        person: who uses it; None where no single person does.
        scopes: what it may do.
        services: the only ``service.name`` values it may send decisions of; empty for any.
        expires_at: UTC, without zone, from which on it is refused; None for never.
        created_at: UTC, without zone.
        created_by: id of the key that made it; None where it was made without one.
        rotated_from: id of the key whose place it takes.
        revoked_at: UTC, without zone, from which on it is refused; None if nobody revoked it.
        secret_sha256: digest of the whole key.
    """

    key_id: str
    name: str
    person: str | None
    scopes: frozenset[Scope]
    services: frozenset[str]
    expires_at: datetime | None
    created_at: datetime
    created_by: str | None
    rotated_from: str | None
    revoked_at: datetime | None
    secret_sha256: bytes = field(repr=False)

    @property
    def who(self) -> str:
        """Whom to name as the author of what it says."""
        return self.person or self.name

    def may(self, scope: Scope) -> bool:
        """Whether it covers a scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def standing(self, now: datetime) -> Standing:
        """Whether it is good at a moment in UTC, without zone."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return Standing.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return Standing.EXPIRED
        return Standing.ACTIVE


def new_token() -> tuple[str, str]:
    """A fresh key id, and the whole key that contains it."""
    key_id = secrets.token_hex(_ID_BYTES)
    secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii").rstrip("=").lower()
    return key_id, f"{PREFIX}_{key_id}_{secret}"


def key_id_of(token: str) -> str | None:
    """The id inside a key; None where the text has not the form of one."""
    if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        return None
    prefix, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not key_id or not secret:
        return None
    return key_id


def digest_of(token: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(_DOMAIN + token.encode()).digest()


def token_in(header: Callable[[str], str | None]) -> str | None:
    """The key that a request brings; None if it brings none.

    Args:
        header: value of a header or metadata entry by its lower-case name.

    Raises:
        Unauthenticated: it brings something else, as a password.
    """
    authorization = header("authorization")
    if authorization:
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != _BEARER or not token.strip():
            raise Unauthenticated(f"The Authorization header holds no Bearer key. {_HOW}")
        return token.strip()
    return (header("x-api-key") or "").strip() or None


def checked(token: str | None, find: Callable[[str], Key | None], now: datetime) -> Key:
    """The good key that a token is.

    An unknown id costs the same comparison as a wrong secret, and is told with the same words.

    Raises:
        Unauthenticated: none was sent, or it is unknown, wrong, expired or revoked.
    """
    if token is None:
        raise Unauthenticated(f"This server asks for an API key, and the request has none. {_HOW}")
    key_id = key_id_of(token)
    key = None if key_id is None else find(key_id)
    digest = digest_of(token) if key_id is not None else bytes(hashlib.sha256().digest_size)
    known = key.secret_sha256 if key is not None else bytes(len(digest) - 1) + b"\1"
    if not hmac.compare_digest(digest, known) or key is None:
        raise Unauthenticated(f"This server does not know the API key. {_HOW}")
    standing = key.standing(now)
    if standing is not Standing.ACTIVE:
        raise Unauthenticated(
            f"The API key {key.key_id} is {standing}; `loopgrid keys create` makes a new one."
        )
    return key


def check_scope(key: Key, scope: Scope) -> None:
    """Let a key pass that covers the scope.

    Raises:
        Forbidden: it does not.
    """
    if not key.may(scope):
        has = ", ".join(sorted(key.scopes))
        raise Forbidden(
            f"This needs the scope {scope}, and the API key {key.key_id} has {has}. "
            f"`loopgrid keys create --scope {scope}` makes one that fits."
        )


def check_services(key: Key, services: Iterable[str | None]) -> None:
    """Let a key pass that may send decisions of all of these services.

    Args:
        key: any key.
        services: the names in a request; None where one is not named.

    Raises:
        Forbidden: it is bound to others; the message names the first that does not fit.
    """
    if not key.services:
        return
    for service in services:
        if service not in key.services:
            told = "a service without a name" if service is None else f"the service {service[:100]!r}"
            raise Forbidden(
                f"The API key {key.key_id} is bound to {', '.join(sorted(key.services))}; this comes from "
                f"{told}. Set service.name, or use a key that covers it."
            )
