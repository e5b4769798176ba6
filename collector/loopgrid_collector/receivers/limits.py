"""How many bytes a sender may make this process hold, and decompression that stops there."""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import Final, Protocol, Self

import pyarrow as pa
import zstandard

from loopgrid_collector.errors import Overloaded, TooLarge, Undecodable, UnsupportedCoding
from loopgrid_collector.receivers.refusals import Refusals

MAX_MEMBERS: Final = 4_096
"""Compressed streams that one body may concatenate: enough for block gzip, too few to burn a core."""

# A slice of compressed input is chosen so small that what it expands to stays within 16 MiB at worst:
# deflate reaches 1032:1, zstd 128 KiB a block of 4 bytes. The cap is checked after each slice.
_DEFLATE_SLICE_BYTES: Final = 8 * 2**10
_ZSTD_SLICE_BYTES: Final = 512
_ZSTD_LEAST_WINDOW_BYTES: Final = 8 * 2**20

_SNAPPY_FRAMES: Final = b"\xff\x06\x00\x00sNaPpY"
_SNAPPY_LENGTH_BYTES: Final = 5

# Framing that incompressible content gains at most: under 1 % for every coding, plus headers.
_FRAMING_SHARE: Final = 64
_FRAMING_BYTES: Final = 1_024


class Budget:
    """Bytes of bodies that may be in the house at once. Safe to use from any thread.

    Attributes:
        refusals: requests that the doors which share the budget refused, for this reason or another.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.refusals = Refusals()
        self._limit_bytes = limit_bytes
        self._in_use_bytes = 0
        self._lock = Lock()

    @property
    def in_use_bytes(self) -> int:
        """Bytes that open admissions hold now."""
        return self._in_use_bytes

    def admission(self) -> Admission:
        """A request's share, held from its first byte to its answer; use it as a context manager."""
        return Admission(self)

    def take(self, count: int, held: int) -> None:
        """Admit ``count`` bytes more to a request that holds ``held``.

        A request that is alone in the house always gets in: its own size limit bounds it, and a
        refusal could never turn into a success.

        Raises:
            Overloaded: the house is full.
        """
        with self._lock:
            others = self._in_use_bytes - held
            if others and others + held + count > self._limit_bytes:
                raise Overloaded(
                    f"The server already holds {others} bytes of other requests, and "
                    f"{self._limit_bytes} is its limit. Resend later, or raise LOOPGRID_MAX_QUEUED_BYTES."
                )
            self._in_use_bytes += count

    def give_back(self, count: int) -> None:
        """Release ``count`` bytes."""
        with self._lock:
            self._in_use_bytes -= count


class Admission:
    """The bytes that one request holds of a ``Budget``."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        self._budget.give_back(self._held)

    def add(self, count: int) -> None:
        """Admit ``count`` bytes more.

        Raises:
            Overloaded: the house is full, or the request was given up meanwhile (a worker thread
                that still decompresses for it stops here).
        """
        if not self._open:
            raise Overloaded("The request was given up before its body was read. Resend it.")
        self._budget.take(count, self._held)
        self._held += count


class _Stream(Protocol):
    """What ``zlib`` and ``zstandard`` decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Coding:
    """One content coding.

    Attributes:
        name: as in ``Content-Encoding``.
        slice_bytes: compressed bytes to expand between two checks of the cap.
        open: a fresh decompressor for a body capped at so many bytes.
        concatenates: whether streams may follow one another in one body.
    """

    name: str
    slice_bytes: int
    open: Callable[[int], _Stream]
    concatenates: bool


def _zstd(max_bytes: int) -> _Stream:
    # A frame that states its size may ask for a window as large as that; more is never needed.
    window = max(_ZSTD_LEAST_WINDOW_BYTES, 2 ** math.ceil(math.log2(max(max_bytes, 1))))
    return zstandard.ZstdDecompressor(max_window_size=window).decompressobj()


_GZIP: Final = Coding("gzip", _DEFLATE_SLICE_BYTES, lambda _: zlib.decompressobj(31), concatenates=True)
_DEFLATE: Final = Coding(
    "deflate", _DEFLATE_SLICE_BYTES, lambda _: zlib.decompressobj(15), concatenates=False
)


class _SnappyBlock:
    """A snappy block, which is expanded in one go: it says beforehand how long it will be."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes) -> bytes:
        if data.startswith(_SNAPPY_FRAMES):
            raise UnsupportedCoding(
                "The body is framed snappy; send a plain snappy block, or gzip, deflate or zstd."
            )
        size = _leading_varint(data)
        if size is None:
            raise _damaged(_SNAPPY, "it does not begin with a length")
        if size > self._max_bytes:
            raise too_large(self._max_bytes)
        self.eof = True
        try:
            expanded: bytes = pa.decompress(data, size, codec="snappy", asbytes=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(_SNAPPY, "the block is corrupt") from error
        return expanded


def _leading_varint(data: bytes) -> int | None:
    number = 0
    for place, byte in enumerate(data[:_SNAPPY_LENGTH_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004 — the last byte of a varint
            return number
    return None


_SNAPPY: Final = Coding("snappy", sys.maxsize, _SnappyBlock, concatenates=False)
_ZSTD: Final = Coding("zstd", _ZSTD_SLICE_BYTES, _zstd, concatenates=True)

CODINGS: Final[dict[str, Coding | None]] = {
    "": None,
    "identity": None,
    "gzip": _GZIP,
    "x-gzip": _GZIP,
    "deflate": _DEFLATE,
    "zlib": _DEFLATE,
    "zstd": _ZSTD,
    "snappy": _SNAPPY,
}


def coding_of(content_encoding: str) -> Coding | None:
    """The coding that a ``Content-Encoding`` header names; ``None`` for an uncompressed body.

    Raises:
        UnsupportedCoding: the server does not read it. Stacked codings are not read either.
    """
    name = content_encoding.strip().lower()
    if name not in CODINGS:
        raise UnsupportedCoding(
            f"Content-Encoding {name[:40]!r} is not supported; send gzip, deflate, zstd "
            "or snappy, or no compression."
        )
    return CODINGS[name]


def max_wire_bytes(coding: Coding | None, max_body_bytes: int) -> int:
    """The longest body on the wire that can still be within ``max_body_bytes`` when decompressed."""
    if coding is None:
        return max_body_bytes
    return max_body_bytes + max_body_bytes // _FRAMING_SHARE + _FRAMING_BYTES


def too_large(max_body_bytes: int) -> TooLarge:
    """The refusal of a body over the limit."""
    return TooLarge(
        f"The body is larger than {max_body_bytes} bytes after decompression. Send smaller batches, "
        "or raise LOOPGRID_MAX_BODY_BYTES (for JSON LOOPGRID_MAX_JSON_BODY_BYTES)."
    )


class Inflation:
    """Decompression that can pause, so that a small body needs no thread and a large one gets it."""

    def __init__(self, wire: bytes, coding: Coding, max_body_bytes: int, admission: Admission) -> None:
        self._coding = coding
        self._max_body_bytes = max_body_bytes
        self._admission = admission
        self._source = _expanded(wire, coding, max_body_bytes)
        self._pieces: list[bytes] = []
        self._size = 0

    def advance(self, pause_after_bytes: int | None = None) -> bool:
        """Go on until the end, or until about ``pause_after_bytes`` have come out. True at the end.

        Raises:
            TooLarge: the cap is passed; the rest is not expanded.
            Undecodable: the stream is damaged, cut short or followed by something else.
            Overloaded: the house is full.
        """
        try:
            for piece in self._source:
                self._size += len(piece)
                if self._size > self._max_body_bytes:
                    self._pieces.clear()
                    raise too_large(self._max_body_bytes)
                self._admission.add(len(piece))
                self._pieces.append(piece)
                if pause_after_bytes is not None and self._size >= pause_after_bytes:
                    return False
        except (zlib.error, zstandard.ZstdError) as error:
            raise _damaged(self._coding, "the stream is corrupt") from error
        return True

    def body(self) -> bytes:
        """All that has come out."""
        return b"".join(self._pieces)


def _expanded(wire: bytes, coding: Coding, max_body_bytes: int) -> Iterator[bytes]:
    position = 0
    for _ in range(MAX_MEMBERS):
        stream = coding.open(max_body_bytes)
        while not stream.eof:
            if position >= len(wire):
                raise _damaged(coding, "the stream is cut short")
            piece = stream.decompress(wire[position : position + coding.slice_bytes])
            position = min(position + coding.slice_bytes, len(wire))
            yield piece
        position -= len(stream.unused_data)
        if position == len(wire):
            return
        if not coding.concatenates:
            raise _damaged(coding, "something follows the end of the stream")
    raise _damaged(coding, f"it concatenates more than {MAX_MEMBERS} streams")


def _damaged(coding: Coding, what: str) -> Undecodable:
    return Undecodable(f"The body is not valid {coding.name}: {what}. Compress it again, or send it plain.")
