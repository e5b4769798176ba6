"""The one check that every door makes: is there a key, is it good, may it do this?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Final

from loopgrid_collector import auth
from loopgrid_collector.audit import Access, Audit
from loopgrid_collector.auth import Key, Scope
from loopgrid_collector.errors import Forbidden, Unauthenticated
from loopgrid_collector.keyring import Keyring
from loopgrid_collector.ledger.ledger import Ledger

CHALLENGE: Final = 'Bearer realm="loopgrid"'
"""``WWW-Authenticate`` of every 401."""

Header = Callable[[str], str | None]
"""Value of a header or metadata entry by its lower-case name."""


class Guard:
    """Keys and audit of one ledger. Safe to use from any thread."""

    def __init__(self, ledger: Ledger, *, first_key_by_request: bool = True) -> None:
        """Load the keys.

        Args:
            ledger: an open ledger.
            first_key_by_request: whether somebody without a key may make the first one; only where nobody
                but this machine's users can ask.
        """
        self.keys = Keyring(ledger)
        self.audit = Audit(ledger)
        self.first_key_by_request = first_key_by_request

    def admit(self, header: Header, scope: Scope, attempt: Access) -> Key | None:
        """The key of a request that may go on; None where no keys are asked for.

        Args:
            header: of the request.
            scope: what it needs.
            attempt: what is recorded if it is refused.

        Raises:
            Unauthenticated: no key, or none that is good.
            Forbidden: the key is good, but not for this.
        """
        if not self.keys.required:
            return None
        key = None
        try:
            key = auth.checked(auth.token_in(header), self.keys.find, self.keys.now)
            auth.check_scope(key, scope)
        except (Unauthenticated, Forbidden) as error:
            self._refused(error, key, attempt)
            raise
        return key

    def admit_services(self, key: Key | None, services: Iterable[str | None], attempt: Access) -> None:
        """Let a request pass whose decisions come from services that its key may speak for.

        Raises:
            Forbidden: one of them is another; nothing of the request may be stored.
        """
        if key is None:
            return
        try:
            auth.check_services(key, services)
        except Forbidden as error:
            self._refused(error, key, attempt)
            raise

    def close(self) -> None:
        """Store the accesses that still wait."""
        self.audit.close()

    def _refused(self, error: Exception, key: Key | None, attempt: Access) -> None:
        status = 401 if isinstance(error, Unauthenticated) else 403
        key_id = key.key_id if key is not None else None
        self.audit.refused(dataclasses.replace(attempt, status=status, key_id=key_id, reason=str(error)))
