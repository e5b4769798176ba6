"""Copies of the live ledger for whoever may have all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.snapshot import Extent


class Snapshot:
    """One copy, while it is sent. To be closed."""

    def __init__(self, ledger: Ledger) -> None:
        """Fix what belongs to it.

        Raises:
            StorageTrouble: the ledger cannot be read right now.
        """
        self._held = ExitStack()
        self.extent: Extent
        self.extent, self._intact = self._held.enter_context(ledger.copying())

    def __iter__(self) -> Iterator[bytes]:
        """The tar stream. Raises: StorageTrouble: the files changed under it."""
        with self._held:
            yield from self.extent.stream(self._intact)

    def __del__(self) -> None:
        # An answer whose client went away before its first byte is never iterated.
        self._held.close()


class Snapshots:
    """Makes copies of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def take(self) -> Snapshot:
        """A copy of the ledger as it is now. Raises: StorageTrouble: it cannot be read right now."""
        return Snapshot(self.ledger)
