"""How request bodies and appends travel between the server and its decoding processes.

Both ends are this release on this machine, over a socket pair that nobody else has: no version, no
negotiation. Numbers are in the machine's own order.

A question: kind, number of bodies, their sizes, the bodies. An answer: the size of its head, the head (JSON),
rows and refusals as Arrow streams, whose sizes the head states.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from loopgrid_collector.decoding import Kind, append_of
from loopgrid_collector.errors import Undecodable
from loopgrid_collector.ledger.records import Append
from loopgrid_collector.otlp.decode import Refused

READY: Final = b"r"
"""What a decoding process says first."""

_KINDS: Final = tuple(Kind)
_QUESTION: Final = struct.Struct("=II")
_SIZE: Final = struct.Struct("=Q")
_REFUSALS: Final = pa.schema(
    [(name, pa.string()) for name in ("reason_code", "reason", "signal")]
    + [("payload", pa.binary()), ("request", pa.int64())]
)


def ask(channel: socket.socket, kind: Kind, bodies: Sequence[bytes]) -> None:
    """Send bodies to be decoded.

    Raises:
        OSError: the other end is gone.
    """
    sizes = struct.pack(f"={len(bodies)}Q", *map(len, bodies))
    channel.sendall(_QUESTION.pack(_KINDS.index(kind), len(bodies)) + sizes)
    for body in bodies:
        channel.sendall(body)


def asked(channel: socket.socket) -> tuple[Kind, list[bytes]] | None:
    """The next question; None when the other end wants no more."""
    head = _received(channel, _QUESTION.size, may_end=True)
    if not head:
        return None
    kind, count = _QUESTION.unpack(head)
    sizes = struct.unpack(f"={count}Q", _received(channel, 8 * count))
    return _KINDS[kind], [_received(channel, size).tobytes() for size in sizes]


class Answers:
    """Writes answers. The memory of one serves the next: fresh pages would cost more than the copy."""

    def __init__(self, channel: socket.socket) -> None:
        """Answer on ``channel``."""
        self._channel = channel
        self._memory = bytearray(2**20)

    def refuse(self, message: str) -> None:
        """Say that the bodies are not what they should be."""
        self._send({"undecodable": message}, [])

    def give(self, append: Append) -> None:
        """Hand back what was decoded."""
        rows = append.spans if append.spans is not None else append.logs
        owners = append.span_request if append.spans is not None else append.log_request
        counts = [] if owners is None else np.bincount(np.asarray(owners), minlength=append.requests).tolist()
        head = {"requests": append.requests, "counts": counts, "refused": len(append.refused)}
        tables = [table for table in (rows, _refusals(append)) if table is not None]
        self._send(head, tables)

    def _send(self, head: dict[str, Any], tables: Sequence[pa.Table]) -> None:
        sizes = [_stream_size(table) for table in tables]
        if sum(sizes) > len(self._memory):
            self._memory = bytearray(sum(sizes))
        sink = pa.FixedSizeBufferWriter(pa.py_buffer(self._memory))
        for table in tables:
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        encoded = json.dumps({**head, "sizes": sizes}).encode()
        self._channel.sendall(_SIZE.pack(len(encoded)) + encoded)
        with memoryview(self._memory) as view:
            self._channel.sendall(view[: sum(sizes)])


def answered(channel: socket.socket, kind: Kind, bodies: Sequence[bytes]) -> Append:
    """The answer to a question.

    Raises:
        Undecodable: that is the answer.
        OSError: the other end is gone.
    """
    (size,) = _SIZE.unpack(_received(channel, _SIZE.size))
    head: dict[str, Any] = json.loads(_received(channel, size).tobytes())
    if "undecodable" in head:
        raise Undecodable(head["undecodable"])
    tables = [_table(_received(channel, size)) for size in head["sizes"]]
    refusals = tables.pop() if head["refused"] else None
    rows = tables.pop() if tables else None
    owners = np.repeat(np.arange(head["requests"]), head["counts"]) if rows is not None else None
    columns = refusals.to_pydict() if refusals is not None else {name: [] for name in _REFUSALS.names}
    request = columns.pop("request")
    refused = [
        Refused(*fields)
        for fields in zip(*(columns[name] for name in _REFUSALS.names if name != "request"), strict=True)
    ]
    held = Append(requests=head["requests"], refused=refused, refused_request=request)
    if kind is Kind.LOGS:
        return replace(held, logs=rows, log_request=owners)

    def payloads() -> pa.BinaryArray:
        # Needed for conflicts alone, which are too rare to send every span's bytes back.
        again = append_of(kind, *bodies).span_payloads
        return again() if again is not None else pa.array([], pa.binary())

    return replace(held, spans=rows, span_request=owners, span_payloads=payloads)


def _refusals(append: Append) -> pa.Table | None:
    if not append.refused:
        return None
    owners = append.refused_request
    rows = [
        (item.reason_code, item.reason, item.signal, item.payload, 0 if owners is None else owners[place])
        for place, item in enumerate(append.refused)
    ]
    by_column = zip(*rows, strict=True)
    columns = [pa.array(column, field.type) for column, field in zip(by_column, _REFUSALS, strict=True)]
    return pa.table(columns, schema=_REFUSALS)


def _stream_size(table: pa.Table) -> int:
    sink = pa.MockOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return int(sink.size())


def _table(data: memoryview) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


def _received(channel: socket.socket, size: int, *, may_end: bool = False) -> memoryview:
    # Not a bytearray: that would be filled with zeros first.
    view = np.empty(size, dtype=np.uint8).data
    place = 0
    while place < size:
        got = channel.recv_into(view[place:])
        if not got:
            if may_end and not place:
                return view[:0]
            raise ConnectionResetError("The other end closed in the middle of a message.")
        place += got
    return view
