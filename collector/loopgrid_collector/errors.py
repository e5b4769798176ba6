"""The collector's errors: three kinds, each telling its reader what to do next.

``Permanent``: the same request can never succeed. ``Retryable``: the same request may succeed
later, nothing of it was stored. ``Fatal``: the process cannot start or go on.
How each kind reaches a sender stands in one table, ``receivers/status.py``.
"""

from __future__ import annotations

from typing import ClassVar


class CollectorError(Exception):
    """Root of everything the collector raises on purpose."""

    @property
    def message(self) -> str:
        """What happened and what to do, for people."""
        return str(self)


class Permanent(CollectorError):
    """The request is wrong and stays wrong; do not send it again unchanged."""


class Undecodable(Permanent):
    """The body is not an OTLP request."""


class TooLarge(Permanent):
    """The body exceeds the size limit; send smaller batches."""


class UnsupportedType(Permanent):
    """The content type is not one that OTLP/HTTP defines."""


class UnsupportedCoding(Permanent):
    """The content coding is not one that this server reads."""


class Unauthenticated(Permanent):
    """No API key came with the request, or none that is good."""


class Forbidden(Permanent):
    """The API key is good, but not for this."""


class Retryable(CollectorError):
    """Nothing was stored; the same request may succeed after ``retry_after_s`` seconds."""

    retry_after_s: ClassVar[float] = 1.0


class Overloaded(Retryable):
    """More is being sent than can be stored right now."""


class StorageTrouble(Retryable):
    """The ledger could not commit."""

    retry_after_s: ClassVar[float] = 5.0


class ShuttingDown(Retryable):
    """The server is stopping."""


class Fatal(CollectorError):
    """The process cannot start, or must stop, until somebody acts."""


class LedgerLocked(Fatal):
    """Another process has the ledger open."""


class LedgerNewer(Fatal):
    """A newer LoopGrid wrote the ledger."""


class LedgerNotWritable(Fatal):
    """The ledger's file or folder cannot be written."""


class LedgerForeign(Fatal):
    """The file is not a LoopGrid ledger, or it is damaged."""


class LedgerShorter(Fatal):
    """The ledger holds fewer commits than its head file attests."""


class PortTaken(Fatal):
    """Another process listens on the port."""


class Misconfigured(Fatal):
    """A setting has a value that cannot be used."""
