"""Who asks, and what the answer shows: what a route tells the access log. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from loopgrid_collector.audit import MAX_DECISION_IDS
from loopgrid_collector.auth import Key, Scope, check_services
from loopgrid_collector.errors import Forbidden

_OPEN: Final = frozenset({"/healthz", "/readyz"})
# The same for every ledger, and a browser has no way to send a key; calls made from them need one.
_PAGES: Final = frozenset({"/", "/docs", "/openapi.json"})
_PAGE_FILES: Final = ("/docs/files/", "/schemas/")
_READING: Final = frozenset({"GET", "HEAD"})
ADMINS_VIEWS: Final = frozenset({"access_log", "keys"})
"""What only an admin reads, where there are keys: who they are, what they saw, where strangers came from."""

_WRITES: Final = {
    ("decisions",): Scope.INGEST,
    ("decisions", "batch"): Scope.READ,
    ("decisions", "*", "incorrect"): Scope.REVIEW,
    ("decisions", "*", "correction"): Scope.REVIEW,
    ("decisions", "*", "correct"): Scope.REVIEW,
    ("decisions", "*", "agree"): Scope.REVIEW,
    ("decisions", "*", "dispute"): Scope.REVIEW,
    ("decisions", "*", "withdraw"): Scope.REVIEW,
    ("decisions", "*", "adjudicate"): Scope.REVIEW,
    ("outcomes",): Scope.REVIEW,
    ("evaluations", "accept"): Scope.REVIEW,
    ("replays",): Scope.REPLAY,
    ("replays", "claim"): Scope.REPLAY,
    ("replays", "leave"): Scope.REPLAY,
    ("replays", "*", "heartbeat"): Scope.REPLAY,
    ("replays", "*", "finish"): Scope.REPLAY,
    ("replays", "*", "cancel"): Scope.REPLAY,
    ("replays", "*", "retry"): Scope.REPLAY,
    ("cohorts",): Scope.REPLAY,
    ("experiments",): Scope.REPLAY,
    ("experiments", "estimate"): Scope.READ,
    ("experiments", "*", "cancel"): Scope.REPLAY,
    ("experiments", "*", "resume"): Scope.REPLAY,
    ("schedules",): Scope.REPLAY,
    ("schedules", "*", "stop"): Scope.REPLAY,
    ("compare",): Scope.READ,
    ("export", "standing"): Scope.READ,
    ("sql",): Scope.READ,
}
"""What a POST needs, by the steps of its path below ``/v1``; ``*`` stands for an id."""


def needed(method: str, path: str) -> Scope | None:
    """The scope that a request to the API needs; None where anybody may ask.

    A route that nobody thought of here needs ``admin``, so that forgetting one closes it.
    """
    if path in _OPEN or (method in _READING and (path in _PAGES or path.startswith(_PAGE_FILES))):
        return None
    steps = tuple(step for step in path.split("/") if step)
    if steps[:2] in (("v1", "keys"), ("v1", "snapshot")):
        return Scope.ADMIN
    if steps[:2] == ("v1", "reviews") and method in _READING | {"POST"}:
        return Scope.REVIEW
    if method in _READING:
        return Scope.READ
    if steps[:1] == ("v1",) and method == "POST":
        below = steps[1:]
        for pattern, scope in _WRITES.items():
            if len(pattern) == len(below) and all(
                wanted in ("*", step) for wanted, step in zip(pattern, below, strict=True)
            ):
                return scope
    return Scope.ADMIN


def is_content(path: str) -> bool:
    """Whether answers at a path hold content, so that asking for them is recorded."""
    return path.startswith("/v1/")


def reads_content(method: str, path: str) -> bool:
    """Whether a request only reads content, so that it can wait for others that do."""
    return method in _READING and is_content(path)


@dataclass(slots=True)
class Asking:
    """One request to the API.

    Attributes:
        key: its key; None where no keys are asked for.
        decision_ids: decisions that its answer shows, as many as are recorded.
        decisions: how many they are.
        statement_sha256: digest of its SQL text.
    """

    key: Key | None = None
    decision_ids: dict[str, None] = field(default_factory=dict)
    decisions: int = 0
    statement_sha256: str | None = None

    def shows(self, decision_ids: Iterable[str | None]) -> None:
        """Say which decisions the answer shows."""
        for decision_id in decision_ids:
            if decision_id is None or decision_id in self.decision_ids:
                continue
            self.decisions += 1
            if len(self.decision_ids) < MAX_DECISION_IDS:
                self.decision_ids[decision_id] = None

    def runs(self, statement: str) -> None:
        """Say which SQL it runs."""
        self.statement_sha256 = hashlib.sha256(statement.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def governs(self) -> bool:
        """Whether it may withdraw what others said: only a key of scope ``admin`` may."""
        return self.key is not None and self.key.may(Scope.ADMIN)

    @property
    def closed_views(self) -> frozenset[str]:
        """Views that its key may not read."""
        return frozenset() if self.key is None or self.key.may(Scope.ADMIN) else ADMINS_VIEWS

    @property
    def blind_reviewer(self) -> str | None:
        """Who shall not see others' answers before giving one; None for who may not review, and admins."""
        if self.key is None or not self.key.may(Scope.REVIEW) or self.key.may(Scope.ADMIN):
            return None
        return self.key.who

    def said_by(self, named: str | None, name: str) -> str | None:
        """Who is on record as having said something: the key's person, or whom the request names.

        Args:
            named: whom the request names, if anybody.
            name: the field that names them, for the message.

        Raises:
            Forbidden: it names somebody else, and its key is no admin's.
        """
        if self.key is None:
            return named
        if named is None:
            return self.key.who
        if named not in (self.key.person, self.key.name) and not self.key.may(Scope.ADMIN):
            raise Forbidden(
                f"{name} names somebody else than the API key, which speaks for {self.key.who}. "
                f"Leave {name} out, or use a key with the scope admin."
            )
        return named

    def sends_for(self, service_name: str | None) -> None:
        """Check that the key may record decisions of a service.

        Raises:
            Forbidden: it is bound to others.
        """
        if self.key is not None:
            check_services(self.key, [service_name])
