"""Requests of a file put together for sending: JSON lines share a request, and no line is changed.

Pure. What shares a request is cut out of the lines as text and joined, never decoded and written
anew, so that every number, name and string arrives as it stands in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from loopgrid_query.cli.otlp_files import Refusal, Request, resources_key

GROUP_RECORDS: Final = 512
GROUP_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Group:
    """Requests to be sent as one, or a refusal in its place.

    Attributes:
        requests: at least one, in the file's order, of one signal; empty for a refusal.
        refusal: what could not be read.
    """

    requests: list[Request] = field(default_factory=list)
    refusal: Refusal | None = None

    @property
    def where(self) -> str:
        """The place in the file, from the first line to the last."""
        first, last = self.requests[0], self.requests[-1]
        if first is last:
            return first.where
        return f"{first.where}-{last.where.rpartition(':')[2]}"

    @property
    def last(self) -> Request | Refusal:
        """The end of what it covers."""
        return self.refusal or self.requests[-1]

    @property
    def records(self) -> int:
        """Records in all of its requests."""
        return sum(request.records for request in self.requests)

    @property
    def body(self) -> bytes:
        """One request that holds all of them."""
        if len(self.requests) == 1:
            return self.requests[0].body
        lists = [request.body[slice(*request.inside)] for request in self.requests if request.inside]
        key = resources_key(self.requests[0].signal).encode()
        return b'{"%s":[%s]}' % (key, b",".join(inner for inner in lists if inner.strip()))


def grouped(items: Iterable[Request | Refusal]) -> Iterator[Group]:
    """The items of one file in its order, JSON lines of one signal together.

    A group ends at ``GROUP_RECORDS`` records or ``GROUP_BYTES`` bytes, at another signal, at a refusal,
    and before and after a request that cannot share one.
    """
    together: list[Request] = []
    records = size = 0
    for item in items:
        fits = (
            isinstance(item, Request)
            and item.inside is not None
            and (not together or item.signal == together[0].signal)
            and records + item.records <= GROUP_RECORDS
            and size + len(item.body) <= GROUP_BYTES
        )
        if together and not fits:
            yield Group(together)
            together, records, size = [], 0, 0
        if isinstance(item, Refusal):
            yield Group(refusal=item)
        elif item.inside is None:
            yield Group([item])
        else:
            together.append(item)
            records += item.records
            size += len(item.body)
    if together:
        yield Group(together)
