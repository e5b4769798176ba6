"""Just enough of HTTP/2 to make unary gRPC calls at the cost of plain socket writes.

One call at a time on a connection. Frames are cut as the flow control of the server allows and written
from the message's own buffer, so that nothing is copied. Headers of answers are not decoded: a unary call
that succeeded has a message, one that failed has none.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

_PATH: Final = b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME: Final = struct.Struct(">BHBBI")
_PREFIX: Final = struct.Struct(">BI")
PREFIX_BYTES: Final = _PREFIX.size
"""In front of a gRPC message: not compressed, and its length."""

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_DEFAULT_WINDOW: Final = 65_535
_LARGEST_WINDOW: Final = 2**31 - 1
_BUFFER_BYTES: Final = 64 * 2**10
_PIECES_AT_ONCE: Final = 512
"""Below the system's limit on the pieces of one write."""


class Broken(Exception):
    """The connection cannot go on; the text says why."""


def prefixed(message: bytes | bytearray) -> bytearray:
    """A message as gRPC sends it."""
    return bytearray(_PREFIX.pack(0, len(message)) + message)


class Channel:
    """One connection."""

    def __init__(self, opened: socket.socket, authority: str) -> None:
        self._socket = opened
        self._head = _request_head(authority.encode("ascii"))
        self._stream = -1
        self._window = _DEFAULT_WINDOW
        self._stream_window = self._initial_window = _DEFAULT_WINDOW
        self._frame_bytes = 16_384
        self._buffer = bytearray(_BUFFER_BYTES)
        self._begin = self._end = 0
        self._answered = self._done = False
        # Answers are a few bytes each; with the largest window they need no window updates from us.
        more = struct.pack(">I", _LARGEST_WINDOW - _DEFAULT_WINDOW)
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0) + _frame(_WINDOW, 0, 0, more))
        while self._one_frame() != _SETTINGS:
            pass

    def run(self, message: bytearray) -> bool:
        """Make a call with a message as of ``prefixed``; whether it succeeded.

        Raises:
            Broken: the connection failed, or the answer says that not all was taken.
        """
        self._stream += 2
        self._stream_window = self._initial_window
        self._answered = self._done = False
        view, at = memoryview(message), 0
        pieces: list[bytes | memoryview] = [
            _frame_head(len(self._head), _HEADERS, _END_HEADERS, self._stream),
            self._head,
        ]
        while at < len(view) and not self._done:
            at = self._add_frames(pieces, view, at)
            self._write(pieces)
            pieces = []
            if at < len(view):
                self._one_frame()
        while not self._done:
            self._one_frame()
        return self._answered

    def _add_frames(self, pieces: list[bytes | memoryview], view: memoryview, at: int) -> int:
        """Data frames from ``at`` on, as many as the windows allow; where the next one begins."""
        while at < len(view) and len(pieces) < _PIECES_AT_ONCE:
            size = min(self._frame_bytes, self._window, self._stream_window, len(view) - at)
            if size <= 0:
                break
            last = at + size == len(view)
            pieces += [
                _frame_head(size, _DATA, _END_STREAM if last else 0, self._stream),
                view[at : at + size],
            ]
            at += size
            self._window -= size
            self._stream_window -= size
        return at

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        if not pieces:
            return
        sent = self._socket.sendmsg(pieces)
        if sent < sum(map(len, pieces)):
            self._socket.sendall(b"".join(pieces)[sent:])

    def _one_frame(self) -> int:
        """Take in one frame of the server; its type."""
        while self._end - self._begin < 9:
            self._receive()
        view = memoryview(self._buffer)
        high, low, kind, flags, stream = _FRAME.unpack_from(view, self._begin)
        size = high << 16 | low
        if size + 9 > _BUFFER_BYTES:
            raise Broken(f"the server sent a frame of {size} bytes")
        while self._end - self._begin < 9 + size:
            self._receive()
        content = bytes(view[self._begin + 9 : self._begin + 9 + size])
        self._begin += 9 + size
        self._take(kind, flags, stream, content)
        return int(kind)

    def _receive(self) -> None:
        if self._begin:
            self._buffer[: self._end - self._begin] = self._buffer[self._begin : self._end]
            self._begin, self._end = 0, self._end - self._begin
        size = self._socket.recv_into(memoryview(self._buffer)[self._end :])
        if not size:
            raise Broken("the server closed the connection")
        self._end += size

    def _take(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind == _WINDOW:
            by = int.from_bytes(content, "big")
            if stream == 0:
                self._window += by
            elif stream == self._stream:
                self._stream_window += by
        elif kind == _SETTINGS and not flags & _ACK:
            self._set(content)
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, content))
        elif kind == _GOAWAY:
            raise Broken("the server sent the connection away")
        elif stream == self._stream:
            if kind == _DATA and content:
                self._answered = True
                if len(content) > PREFIX_BYTES:
                    raise Broken(f"not all was taken: {content[PREFIX_BYTES:][:200]!r}")
            # After an answer, a reset says that the server will read no more of the request.
            self._done = (
                self._done or kind == _RESET or (kind in {_DATA, _HEADERS} and flags & _END_STREAM > 0)
            )

    def _set(self, content: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", content):
            if name == _INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif name == _MAX_FRAME_SIZE:
                self._frame_bytes = value


def _frame_head(size: int, kind: int, flags: int, stream: int) -> bytes:
    return _FRAME.pack(size >> 16, size & 0xFFFF, kind, flags, stream)


def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return _frame_head(len(content), kind, flags, stream) + content


def _request_head(authority: bytes) -> bytes:
    """HPACK without Huffman coding and without a dynamic table: POST, http, and the literals."""
    return b"".join(
        (
            b"\x83\x86",
            b"\x04" + _text(_PATH),
            b"\x01" + _text(authority),
            b"\x0f\x10" + _text(b"application/grpc"),
            b"\x00\x02te\x08trailers",
        )
    )


def _text(value: bytes) -> bytes:
    assert len(value) < 127
    return bytes([len(value)]) + value
