"""OTLP requests in files: protobuf, one JSON object, or JSON lines. Reads; sends nothing.

What a file holds is recognised from its content; protobuf does not name its signal, so there the
file's name or the caller does. A file or line that holds no request becomes a `Refusal` in its
place, and reading goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import orjson

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_PROTOBUF_SUFFIXES: Final = frozenset({".pb", ".binpb"})
_JSON_SUFFIXES: Final = frozenset({".json", ".jsonl"})
SUFFIXES: Final = _PROTOBUF_SUFFIXES | _JSON_SUFFIXES


class Signal(StrEnum):
    """What an OTLP request carries; also the last part of its path, ``/v1/<signal>``."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where the records of a signal stand in a JSON request."""

    resources: str
    scopes: str
    records: str


_SHAPES: Final = {
    Signal.TRACES: _Shape("resourceSpans", "scopeSpans", "spans"),
    Signal.LOGS: _Shape("resourceLogs", "scopeLogs", "logRecords"),
    Signal.METRICS: _Shape("resourceMetrics", "scopeMetrics", "metrics"),
}
_SOLE_LIST: Final = {
    signal: re.compile(rb'\s*\{\s*"%s"\s*:\s*\[(.*)\]\s*\}\s*' % shape.resources.encode(), re.DOTALL)
    for signal, shape in _SHAPES.items()
}
"""A JSON request that has its one list and nothing else, if what is captured reads as a list's inside."""

_PROTOBUF_PATH: Final = (1, 2, 2)
"""Field numbers from a request down to its records; the same for all three signals."""


@dataclass(frozen=True, slots=True)
class Request:
    """One OTLP request as it stands in a file.

    Attributes:
        where: the file, with ``:line`` in a file of JSON lines.
        records: spans, log records or metrics in it, as far as its framing can be read.
        file_bytes: how far into its file reading has come with it.
        line: the line it stands on in a file of JSON lines, else 0.
        inside: where in ``body`` the inside of its one list stands, if JSON and nothing else is there.
    """

    where: str
    signal: Signal
    content_type: str
    body: bytes
    records: int
    file_bytes: int
    line: int = field(default=0, compare=False)
    inside: tuple[int, int] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file or line that was not taken, and why.

    Attributes:
        where: as of a request.
        reason: for people.
        file_bytes: how far into its file reading has come; not past what may change.
        line: as of a request.
        passing: the next run may find otherwise: the file may become readable, its last line complete.
    """

    where: str
    reason: str
    file_bytes: int = 0
    line: int = 0
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file has been read: bytes, and lines in a file of JSON lines."""

    file_bytes: int = 0
    line: int = 0


BEGINNING: Final = Place()


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and those with an OTLP suffix below the folders named, each once."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (inner for inner in sorted(path.rglob("*")) if inner.suffix in SUFFIXES)
            found.update(dict.fromkeys(inner for inner in inside if inner.is_file()))
        else:
            found[path] = None
    return list(found)


def read_requests(
    path: Path, signal: Signal | None = None, start: Place = BEGINNING
) -> Iterator[Request | Refusal]:
    """The requests of one file, in its order.

    Args:
        path: a file; its suffix says protobuf or JSON.
        signal: what the requests carry where neither content nor file name tell.
        start: the place to go on from. A file that is one request is read whole or, at its end, not.
    """
    try:
        if start.file_bytes and start.file_bytes == path.stat().st_size:
            return
        if path.suffix in _PROTOBUF_SUFFIXES:
            yield _protobuf_request(path, signal)
        elif path.suffix in _JSON_SUFFIXES:
            yield from _json_requests(path, start)
        else:
            reason = f"its name ends in none of {', '.join(sorted(SUFFIXES))}"
            yield Refusal(str(path), reason, passing=True)
    except OSError as error:
        yield Refusal(str(path), error.strerror or str(error), passing=True)


def count_protobuf_records(body: bytes) -> int | None:
    """Records in a protobuf request, by its outer framing alone; None where that is broken.

    Contents are not decoded: a request of which the server can save a part is still counted whole.
    """
    messages = [memoryview(body)]
    try:
        for wanted in _PROTOBUF_PATH:
            messages = [
                inner
                for message in messages
                for number, inner in _length_delimited(message)
                if number == wanted
            ]
    except (IndexError, ValueError):
        return None
    return len(messages)


def _protobuf_request(path: Path, signal: Signal | None) -> Request | Refusal:
    named = [known for known in Signal if known.value in path.name.lower()]
    if signal is None and len(named) != 1:
        reason = "its name says neither traces, logs nor metrics; give --signal"
        return Refusal(str(path), reason, passing=True)
    body = path.read_bytes()
    records = count_protobuf_records(body)
    if records is None:
        return Refusal(str(path), "it is not an OTLP protobuf request", len(body))
    return Request(str(path), signal or named[0], PROTOBUF, body, records, len(body))


def _json_requests(path: Path, start: Place) -> Iterator[Request | Refusal]:
    """JSON lines where the first line is a whole object, one object otherwise."""
    with path.open("rb") as file:
        first = file.readline()
        rest = file.readline()
    if path.suffix == ".json" and not (rest.strip() and _parses(first)):
        body = path.read_bytes()
        yield _json_request(str(path), body, Place(len(body)))
        return
    done = start.file_bytes
    with path.open("rb") as file:
        file.seek(done)
        for number, line in enumerate(file, start=start.line + 1):
            before, done = done, done + len(line)
            if not line.strip():
                continue
            item = _json_request(f"{path}:{number}", line, Place(done, number))
            if isinstance(item, Refusal) and not line.endswith(b"\n"):
                item = Refusal(item.where, item.reason, before, number - 1, passing=True)
            yield item


def _json_request(where: str, body: bytes, end: Place) -> Request | Refusal:
    for signal, form in _SOLE_LIST.items():
        found = form.fullmatch(body)
        resources = found and _list(body[slice(*found.span(1))])
        if found and resources is not None:
            shape = _SHAPES[signal]
            records = _count_json_records({shape.resources: resources}, shape)
            return Request(where, signal, JSON, body, records, end.file_bytes, end.line, found.span(1))
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        return Refusal(where, f"it is not JSON ({error})", end.file_bytes, end.line)
    held = [
        signal
        for signal, shape in _SHAPES.items()
        if isinstance(request, dict) and shape.resources in request
    ]
    if len(held) != 1:
        keys = ", ".join(shape.resources for shape in _SHAPES.values())
        return Refusal(where, f"it is not an OTLP request: it needs one of {keys}", end.file_bytes, end.line)
    records = _count_json_records(request, _SHAPES[held[0]])
    return Request(where, held[0], JSON, body, records, end.file_bytes, end.line)


def _list(inside: bytes) -> list[Any] | None:
    """The list that these bytes are in brackets; None if they are none."""
    try:
        found: list[Any] = orjson.loads(b"[%s]" % inside)
    except orjson.JSONDecodeError:
        return None
    return found


def resources_key(signal: Signal) -> str:
    """The key of a JSON request that holds everything else."""
    return _SHAPES[signal].resources


def _count_json_records(request: dict[str, Any], shape: _Shape) -> int:
    found: list[Any] = [request]
    for key in (shape.resources, shape.scopes, shape.records):
        found = [
            inner
            for outer in found
            if isinstance(outer, dict)
            for inner in (outer[key] if isinstance(outer.get(key), list) else [])
        ]
    return len(found)


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _length_delimited(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field number and bytes of each length-delimited field of a protobuf message.

    Raises:
        IndexError, ValueError: the framing is broken.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        elif kind == 2:  # noqa: PLR2004 - protobuf's wire type "length-delimited"
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError("unknown wire type")
    if at > len(message):
        raise ValueError("cut off")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follows
            return value, at
        shift += 7
