"""API keys, as the API tells and takes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from loopgrid_collector.auth import Key, Scope
from loopgrid_collector.guard import Guard
from loopgrid_collector.keyring import KeyRefused, NoSuchKey
from loopgrid_query.errors import FieldError, Invalid, NotFound
from loopgrid_query.instants import parse_instant_ns
from loopgrid_query.models import KeyRequest, KeyRotation
from loopgrid_query.nearest import did_you_mean
from loopgrid_query.records import Record

_NS_PER_US: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)


class Keys:
    """The keys of one ledger."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def list(self) -> list[Record]:
        """Every key there ever was, oldest first, without secrets."""
        now = self._guard.keys.now
        return [key_record(key, now) for key in self._guard.keys.all()]

    def create(self, request: KeyRequest, by: Key | None, *, on_file: bool = False) -> Record:
        """A new key with its text, which nobody can ask for again.

        Args:
            request: what it shall be.
            by: the key that asks; None where none is asked for.
            on_file: whether whoever asks has the ledger's file, and so needs no key.

        Raises:
            Invalid: the key could do nothing, or more than it says.
            CollectorError: it could not be stored.
        """
        keyring = self._guard.keys
        if not (on_file or keyring.required or self._guard.first_key_by_request):
            raise Invalid(
                "The first key of a server that other machines can reach is made on its own machine, while "
                "it is stopped: loopgrid keys create --ledger FILE."
            )
        try:
            key, token = keyring.create(
                request.name,
                scopes_of(request.scopes),
                person=request.person,
                services=request.services or (),
                expires_at=None if request.expires_at is None else moment_of(request.expires_at),
                created_by=None if by is None else by.key_id,
                only_as_first=by is None and not on_file,
            )
        except KeyRefused as error:
            raise Invalid(str(error)) from error
        return {**key_record(key, keyring.now), "key": token}

    def rotate(self, key_id: str, request: KeyRotation, by: Key | None) -> Record:
        """A key in the place of another, with its text.

        Raises:
            NotFound: there is no such key.
            Invalid: it is not active.
        """
        keyring = self._guard.keys
        until = None
        if request.old_valid_for_s:
            until = keyring.now + timedelta(seconds=request.old_valid_for_s)
        try:
            key, token = keyring.rotate(key_id, old_until=until, by=None if by is None else by.key_id)
        except NoSuchKey as error:
            raise NotFound(str(error)) from error
        except KeyRefused as error:
            raise Invalid(str(error)) from error
        return {**key_record(key, keyring.now), "key": token}

    def revoke(self, key_id: str, by: Key | None) -> Record:
        """A key that nobody can use any more.

        Raises:
            NotFound: there is no such key.
        """
        try:
            key = self._guard.keys.revoke(key_id, None if by is None else by.key_id)
        except NoSuchKey as error:
            raise NotFound(str(error)) from error
        return key_record(key, self._guard.keys.now)


def scopes_of(words: list[str]) -> list[Scope]:
    """Scopes by their names.

    Raises:
        Invalid: there is no such scope.
    """
    known = [scope.value for scope in Scope]
    for word in words:
        if word not in known:
            raise Invalid.of(
                [FieldError("scopes", f"there is no scope {word!r}; {did_you_mean(word, known)}")]
            )
    return [Scope(word) for word in words]


def moment_of(text: str) -> datetime:
    """A moment in UTC, without zone."""
    return _EPOCH + timedelta(microseconds=parse_instant_ns(text) // _NS_PER_US)


def key_record(key: Key, now: datetime) -> Record:
    """A key as the API tells it: everything but its secret and its digest."""
    told: dict[str, Any] = {
        "key_id": key.key_id,
        "name": key.name,
        "person": key.person,
        "scopes": sorted(key.scopes),
        "services": sorted(key.services),
        "status": key.standing(now).value,
        "created_at": _instant(key.created_at),
        "created_by": key.created_by,
        "rotated_from": key.rotated_from,
        "expires_at": _instant(key.expires_at),
        "revoked_at": _instant(key.revoked_at),
    }
    return told


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="microseconds") + "Z"
