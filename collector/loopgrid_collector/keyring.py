"""The API keys of one ledger: entries on disk, a table in memory.

Laws:

* A key or a revocation counts once its commit is durable, and not before.
* The secret is shown once, to whoever made the key; the ledger holds a digest of it.
* From the first key on, keys are asked for, and revoking them all does not open the doors again.
"""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from loopgrid_collector.auth import Key, Scope, Standing, digest_of, new_token
from loopgrid_collector.errors import Permanent
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Append, Entry, sealed_entries
from loopgrid_collector.ledger.statements import QUERIES

MAX_NAME_CHARACTERS: Final = 200
MAX_SERVICES: Final = 100


class NoSuchKey(Permanent):
    """No key has this id."""


class KeyRefused(Permanent):
    """A key like this would not do what its maker wants."""


def utc_now() -> datetime:
    """The moment, in UTC and without zone, as the ledger keeps times."""
    return datetime.now(UTC).replace(tzinfo=None)


class Keyring:
    """All keys of an open ledger. Safe to use from any thread."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime] = utc_now) -> None:
        """Load what the ledger holds.

        Args:
            ledger: an open ledger.
            clock: the moment, in UTC and without zone.
        """
        self._ledger = ledger
        self._clock = clock
        self._changing = threading.Lock()
        with ledger.cursor() as cursor:
            rows = cursor.execute(QUERIES["keys"]).fetchall()
        self._keys: dict[str, Key] = {}
        for entry_type, body in rows:
            self._take(entry_type, orjson.loads(body))

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return bool(self._keys)

    @property
    def now(self) -> datetime:
        """The moment by which keys expire."""
        return self._clock()

    def find(self, key_id: str) -> Key | None:
        """The key of that id, whatever its standing."""
        return self._keys.get(key_id)

    def all(self) -> list[Key]:
        """Every key there ever was, oldest first."""
        return list(self._keys.values())

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        *,
        person: str | None = None,
        services: Iterable[str] = (),
        expires_at: datetime | None = None,
        created_by: str | None = None,
        only_as_first: bool = False,
    ) -> tuple[Key, str]:
        """A new key, and its text, which is shown this once.

        Args:
            name: what it is for.
            scopes: what it may do.
            person: who uses it.
            services: the only services it may send decisions of.
            expires_at: UTC, without zone.
            created_by: id of the key that asks.
            only_as_first: whether nobody asks who may make a key once there is one.

        Raises:
            KeyRefused: it could do nothing, or more than it says.
            StorageTrouble: it could not be stored.
        """
        wanted, bound = frozenset(scopes), frozenset(services)
        with self._changing:
            if only_as_first and self._keys:
                raise KeyRefused("Somebody made the first key meanwhile; send a key with the scope admin.")
            self._check(name, person, wanted, bound, expires_at)
            body = {
                "name": name,
                "person": person,
                "scopes": sorted(wanted),
                "services": sorted(bound),
                "expires_at": _told(expires_at),
                "created_by": created_by,
                "rotated_from": None,
            }
            return self._made(body, ())

    def rotate(
        self, key_id: str, *, old_until: datetime | None = None, by: str | None = None
    ) -> tuple[Key, str]:
        """A key with the rights of another, which is revoked in the same commit.

        Args:
            key_id: the old key.
            old_until: until when the old one is still good; UTC, without zone; at once if None.
            by: id of the key that asks.

        Raises:
            NoSuchKey: there is none.
            KeyRefused: it is not active any more.
            StorageTrouble: nothing was stored; the old one goes on.
        """
        with self._changing:
            old = self._active(key_id)
            body = {
                "name": old.name,
                "person": old.person,
                "scopes": sorted(old.scopes),
                "services": sorted(old.services),
                "expires_at": _told(old.expires_at),
                "created_by": by,
                "rotated_from": key_id,
            }
            return self._made(body, [_revocation(key_id, old_until or self._clock(), by)])

    def revoke(self, key_id: str, by: str | None = None) -> Key:
        """The key, which nobody can use any more.

        Raises:
            NoSuchKey: there is none.
            StorageTrouble: it could not be stored; the key goes on.
        """
        with self._changing:
            key = self._known(key_id)
            if key.standing(self._clock()) is not Standing.REVOKED:
                self._append([_revocation(key_id, self._clock(), by)])
            return self._keys[key_id]

    def _made(self, body: Mapping[str, Any], others: Iterable[Entry]) -> tuple[Key, str]:
        key_id, token = new_token()
        given = {"created_at": _told(self._clock()), "secret_sha256": digest_of(token).hex()}
        whole = {"key_id": key_id, **body, **given}
        self._append([_entry(f"key_{key_id}", "key", body["created_by"], whole), *others])
        return self._keys[key_id], token

    def _append(self, entries: list[Entry]) -> None:
        self._ledger.append(Append(entries=sealed_entries(entries))).result()
        for entry in entries:
            self._take(entry.entry_type, entry.body)

    def _take(self, entry_type: str, body: Mapping[str, Any]) -> None:
        key_id = body["key_id"]
        if entry_type == "key":
            self._keys[key_id] = Key(
                key_id=key_id,
                name=body["name"],
                person=body["person"],
                scopes=frozenset(map(Scope, body["scopes"])),
                services=frozenset(body["services"]),
                expires_at=_moment(body["expires_at"]),
                created_at=datetime.fromisoformat(body["created_at"]),
                created_by=body["created_by"],
                rotated_from=body["rotated_from"],
                revoked_at=None,
                secret_sha256=bytes.fromhex(body["secret_sha256"]),
            )
            return
        key = self._keys[key_id]
        at = datetime.fromisoformat(body["effective_at"])
        earliest = at if key.revoked_at is None else min(at, key.revoked_at)
        self._keys[key_id] = dataclasses.replace(key, revoked_at=earliest)

    def _known(self, key_id: str) -> Key:
        key = self._keys.get(key_id)
        if key is None:
            raise NoSuchKey(
                f"No API key {key_id[:50]!r} is on record; `loopgrid keys list` shows those that are."
            )
        return key

    def _active(self, key_id: str) -> Key:
        key = self._known(key_id)
        standing = key.standing(self._clock())
        if standing is not Standing.ACTIVE:
            raise KeyRefused(
                f"The API key {key_id} is {standing}; make a new one with `loopgrid keys create`."
            )
        return key

    def _check(
        self,
        name: str,
        person: str | None,
        scopes: frozenset[Scope],
        services: frozenset[str],
        expires_at: datetime | None,
    ) -> None:
        for text in (name, *services, *([person] if person is not None else [])):
            if not text.strip() or len(text) > MAX_NAME_CHARACTERS or not text.isprintable():
                raise KeyRefused(
                    f"Name, person and services are 1 to {MAX_NAME_CHARACTERS} printable characters each."
                )
        if not scopes:
            raise KeyRefused("A key needs at least one scope.")
        if len(services) > MAX_SERVICES:
            raise KeyRefused(f"A key is bound to {MAX_SERVICES} services at most; make another key.")
        if services and scopes != {Scope.INGEST}:
            raise KeyRefused(
                "Only a key whose one scope is ingest can be bound to services: what is read is not divided "
                "by service. Make a second key for the rest."
            )
        if expires_at is not None and expires_at <= self._clock():
            raise KeyRefused("The key would have expired already; name a later moment.")
        if not self._keys and Scope.ADMIN not in scopes:
            raise KeyRefused(
                "The first key closes every door, so it needs the scope admin: without it nobody could make "
                "another."
            )


def _revocation(key_id: str, at: datetime, by: str | None) -> Entry:
    body = {"key_id": key_id, "effective_at": _told(at), "revoked_by": by}
    return _entry(f"kyr_{uuid.uuid4().hex}", "key_revoked", by, body)


def _entry(entry_id: str, entry_type: str, actor: str | None, body: Mapping[str, Any]) -> Entry:
    return Entry(
        entry_id=entry_id,
        entry_type=entry_type,
        trace_id=0,
        span_id=0,
        subject_id=None,
        actor=actor,
        body=body,
    )


def _told(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="microseconds")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
