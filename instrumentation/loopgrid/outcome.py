"""What became of one attempt to deliver spans."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The collector holds the spans, except `rejected` of them."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Not delivered; the same request may be sent again, after `after_s` seconds if it says so.

    `absent`: the connection was refused, nothing listens there.
    """

    reason: str
    after_s: float | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Not delivered, and this content never will be."""

    reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """Not delivered, and nothing will be before somebody changes a setting: a wrong key, a wrong server."""

    reason: str


Outcome = Acknowledged | TryAgain | Refused | Blocked
