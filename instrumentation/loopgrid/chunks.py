"""What a generator or stream yields, recorded while it passes, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from loopgrid.capture import Losses, Sequel, capture
from loopgrid.config import CaptureLimits

Reduce = Callable[[list[Any]], object]
"""Joins the chunks of one call into its output, for example `"".join`."""


class Chunks:
    """The chunks of one call.

    Each is written when it passes, because whoever receives it may change it. With `reduce` the chunks
    themselves are kept, up to `max_chunks` and `max_content_bytes` of text.

    Attributes:
        count: chunks that have passed.
    """

    __slots__ = (
        "_digest",
        "_kept",
        "_limits",
        "_losses",
        "_reduce",
        "_sequel",
        "_text_bytes",
        "_where",
        "count",
    )

    def __init__(self, where: str, limits: CaptureLimits, losses: Losses, reduce: Reduce | None) -> None:
        self._where = where
        self._limits = limits
        self._losses = losses
        self._reduce = reduce
        self._sequel = Sequel(where, limits, losses)
        self._kept: list[object] = []
        self._digest: Any = hashlib.sha256()
        self._text_bytes = 0
        self.count = 0

    def add(self, chunk: object) -> None:
        """Record the next chunk."""
        index, self.count = self.count, self.count + 1
        self._measure(chunk)
        room = index < self._limits.max_chunks and self._text_bytes <= self._limits.max_content_bytes
        if self._reduce is not None and room:
            self._kept.append(chunk)
        elif self._reduce is None and index < self._limits.max_chunks:
            self._sequel.add(chunk)

    def written(self) -> str:
        """JSON text: what `reduce` makes of the chunks, else a list of them."""
        if self._reduce is None:
            self._note_omitted(self._sequel.count)
            return self._sequel.written(self.count)
        self._note_omitted(len(self._kept))
        try:
            joined = self._reduce(list(self._kept))
        except Exception as error:  # noqa: BLE001 - the application's function: its failure costs the joining only
            self._losses.note(self._where, f"reduce_failed:{type(error).__name__}")
            joined = self._kept
        return capture(joined, self._where, self._limits, self._losses)

    def _measure(self, chunk: object) -> None:
        if type(chunk) is str:
            data = chunk.encode(errors="replace")
        elif type(chunk) is bytes:
            data = chunk
        else:
            # A digest of what was left out can be given of text only.
            self._digest = None
            return
        self._text_bytes += len(data)
        if self._digest is not None:
            self._digest.update(data)

    def _note_omitted(self, kept: int) -> None:
        if kept < self.count:
            digest = "" if self._digest is None else f":sha256={self._digest.hexdigest()}"
            self._losses.note(
                self._where, f"chunks_omitted:{self.count - kept} of {self.count}:{self._text_bytes}{digest}"
            )
