"""The durable queue on disk between an application and the network.

One folder per producer inside the spool folder: `lock`, numbered segments, `ack`. The lock is held as long as
the producer lives (the system releases it however it ends), so any other process can tell what is orphaned
and, by taking the lock, drain it alone.

A record is length, CRC-32, type and payload. It counts once it is whole. A torn record at the end of the last
segment is what a killed process leaves and is passed over. Any other damage costs the records it struck:
reading goes on with the next one that fits its checksum, and the file is set aside in `refused` and counted,
never deleted.

Hole: the folder of a machine that is gone is gone. On a disk that lies about fsync, power loss can cost more.
Where damage struck a resource, the spans that refer to it are sent without one: none is made up for them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

MAGIC: Final = b"LGSPOOL1"
HEAD: Final = struct.Struct("<IIB")
CONTEXT_HEAD: Final = struct.Struct("<II")
ITEM_HEAD: Final = struct.Struct("<I24s")
ACK: Final = struct.Struct("<QQ")
MAX_RECORD_BYTES: Final = 256 * 2**20
"""Larger lengths are damage, not records: nothing is read into memory for them."""
CANDIDATE: Final = re.compile(rb"(?s)(?=...[\x00-\x10]....[\x01-\x05]..\x00\x00)")
"""What a record may look like where reading begins anew after damage: a length, a type and a number that can
be meant. The checksum then decides; without this sieve it would be computed at every byte."""
MAX_RESYNC_S: Final = 10.0
"""Seconds that looking for the next record after one damage may take."""
REFUSED: Final = "refused"
_sync: Final = getattr(os, "fdatasync", os.fsync)


class Kind(IntEnum):
    """What a record is."""

    CONTEXT = 1
    """Resource and scope that later records of the segment refer to by number."""
    START = 2
    """A decision that was open; sent only if its end never came."""
    SPAN = 3
    EVENT = 4
    """A log record: a decision open for long, or a report of the producer."""
    VOID = 5
    """In place of a span that could not be encoded, so that counting stays true."""


KINDS: Final = frozenset(Kind)


class Position(NamedTuple):
    """A place in a producer's segments."""

    segment: int
    offset: int


FIRST: Final = Position(1, 0)
"""Where a producer's first segment begins."""


class Item(NamedTuple):
    """One record, with the resource and scope it belongs to."""

    kind: Kind
    key: bytes
    body: bytes
    group: tuple[bytes, bytes]
    after: Position


def framed(kind: Kind, payload: bytes) -> bytes:
    """A record as it stands in a segment."""
    code = bytes((kind,))
    return HEAD.pack(len(payload), zlib.crc32(payload, zlib.crc32(code)), kind) + payload


def key_of(trace_id: int, span_id: int) -> bytes:
    """The 24 bytes that identify a span."""
    return trace_id.to_bytes(16, "big") + span_id.to_bytes(8, "big")


class Writing:
    """The writing side of one producer's folder: one thread appends, another acknowledges.

    Attributes:
        folder: the producer's folder.
        end: where the next record will stand.
        waiting_bytes: bytes appended and not acknowledged.
        others_bytes: bytes that other processes had in the spool folder when `measure_others` looked.
    """

    def __init__(
        self, root: Path, producer_id: str, endpoint: str, max_segment_bytes: int,
        max_segment_age_s: float = float("inf"),
    ) -> None:  # fmt: skip
        self.folder = root / producer_id
        self._root = root
        self._endpoint = endpoint
        self._max_segment_bytes = max_segment_bytes
        self._max_segment_age_s = max_segment_age_s
        self._begun_s = 0.0
        self._lock_fd: int | None = None
        self._fd: int | None = None
        self._contexts: dict[tuple[bytes, bytes], int] = {}
        self._sizes: dict[int, int] = {}
        self._ack_fd: int | None = None
        self._dirty = False
        self._acked = Position(0, 0)
        self.end = Position(0, 0)
        self.waiting_bytes = 0
        self.others_bytes = 0

    def measure_others(self) -> None:
        """Add up what waits in the folders of other processes, living and ended."""
        self.others_bytes = sum(
            bytes_in(folder) for folder in producers(self._root) if folder.name != self.folder.name
        )

    def _count(self) -> None:
        acked = self._acked
        sizes = list(self._sizes.items())
        waiting = sum(size for number, size in sizes if number >= acked.segment)
        self.waiting_bytes = max(0, waiting - (acked.offset if acked.segment in dict(sizes) else 0))

    def prepare(self) -> None:
        """Make the folder and take its lock.

        Raises:
            OSError: it cannot be made or written.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made under a name that nobody drains and moved when it is locked: no other process can find it
        # unlocked.
        new = self._root / f".{self.folder.name}.new"
        new.mkdir(mode=0o700)
        self._lock_fd = os.open(new / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        about = json.dumps({"endpoint": self._endpoint, "pid": os.getpid(), "started": time.time()})
        (new / "about.json").write_text(about, "utf-8")
        new.rename(self.folder)

    def append(self, items: Iterable[tuple[Kind, tuple[bytes, bytes], bytes, bytes]]) -> bool:
        """Append records of (kind, group, key, body) with one write; True where a new segment was begun.

        Raises:
            OSError: nothing of it is in the segment then.
        """
        # By age, too: age is judged by the file, so no record may be much older than the last one in it.
        begun = (
            self._fd is None
            or self.end.offset >= self._max_segment_bytes
            or time.monotonic() - self._begun_s > self._max_segment_age_s
        )
        if begun:
            self._begin()
        known = len(self._contexts)
        parts: list[bytes] = []
        for kind, group, key, body in items:
            number = self._contexts.get(group)
            if number is None:
                number = self._contexts[group] = len(self._contexts)
                resource, scope = group
                head = CONTEXT_HEAD.pack(number, len(resource))
                parts.append(framed(Kind.CONTEXT, head + resource + scope))
            parts.append(framed(kind, ITEM_HEAD.pack(number, key) + body))
        try:
            self._write(b"".join(parts))
        except OSError:
            self._contexts = dict(list(self._contexts.items())[:known])
            raise
        return begun

    def _write(self, data: bytes) -> None:
        if self._fd is None:
            raise OSError("no segment is open")
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, self.end.offset)
            os.lseek(self._fd, self.end.offset, os.SEEK_SET)
            raise
        self.end = Position(self.end.segment, self.end.offset + len(data))
        self._sizes[self.end.segment] = self.end.offset
        self._dirty = True
        self._count()

    def _begin(self) -> None:
        if self._lock_fd is None:
            self.prepare()
        self.sync()
        number = self.end.segment + 1
        path = self.folder / f"{number:08d}.seg"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, MAGIC)
        except OSError:
            os.close(fd)
            raise
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        self._begun_s = time.monotonic()
        self._contexts = {}
        self.end = Position(number, len(MAGIC))
        self._sizes[number] = len(MAGIC)
        self._dirty = True

    def sync(self) -> None:
        """Make everything appended so far durable.

        Raises:
            OSError: the disk did not take it.
        """
        if self._dirty and self._fd is not None:
            _sync(self._fd)
            self._dirty = False

    @property
    def dirty(self) -> bool:
        """Whether something was appended since the last `sync`."""
        return self._dirty

    def acknowledge(self, position: Position) -> None:
        """Remember that everything before the position has arrived, and remove whole segments before it."""
        if position == self._acked:
            return
        if self._ack_fd is None:
            self._ack_fd = os.open(self.folder / "ack", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Not synced: after a power cut the same is sent again, which a ledger stores once.
        os.pwrite(self._ack_fd, ACK.pack(position.segment, position.offset), 0)
        for number in [number for number in list(self._sizes) if number < position.segment]:
            (self.folder / f"{number:08d}.seg").unlink(missing_ok=True)
            self._sizes.pop(number, None)
        self._acked = position
        self._count()

    def remove(self) -> None:
        """Remove the folder; what it holds has arrived. The next `append` makes another."""
        self.abandon()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._sizes.clear()
        self._contexts = {}
        self._count()

    def abandon(self) -> None:
        """Close the files and leave the folder as it is: for the next start, or in a fork for the parent.

        Closing an inherited copy of the lock does not release it; the parent still holds it.
        """
        for fd in (self._fd, self._ack_fd, self._lock_fd):
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._fd = self._ack_fd = self._lock_fd = None


@dataclass(slots=True)
class Reading:
    """The reading side of one producer's folder.

    Attributes:
        folder: the producer's folder.
        position: where the next record is read.
        starts: with `keep_starts`, the decisions seen to start and not yet to end.
        damaged: segments in which a record did not fit its checksum.
    """

    folder: Path
    keep_starts: bool = False
    position: Position = FIRST
    starts: dict[bytes, Item] = field(default_factory=dict)
    damaged: list[Path] = field(default_factory=list)
    _contexts: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    def items(self, end: Position | None = None) -> Iterator[Item]:
        """Records from `position` on, which moves along; up to `end`, or to where the files end."""
        numbers = sorted(int(path.stem) for path in self.folder.glob("*.seg"))
        for number in numbers:
            if number < self.position.segment or (end is not None and number > end.segment):
                continue
            if number > self.position.segment or self.position.offset == 0:
                self._contexts = {}
                self.position = Position(number, len(MAGIC))
            limit = end.offset if end is not None and number == end.segment else None
            yield from self._segment(number, limit, is_last=number == numbers[-1])

    def _segment(self, number: int, limit: int | None, *, is_last: bool) -> Iterator[Item]:
        path = self.folder / f"{number:08d}.seg"
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            size = os.fstat(file.fileno()).st_size if limit is None else limit
            file.seek(self.position.offset)
            while self.position.offset < size:
                record = _record(file, size - self.position.offset)
                if record is None:
                    begin = self._resumed(file, size, path, is_last=is_last)
                    self.position = Position(number, begin)
                    file.seek(begin)
                    continue
                kind, payload = record
                self.position = Position(number, self.position.offset + HEAD.size + len(payload))
                item = self._item(kind, payload)
                if item is not None:
                    yield item

    def _resumed(self, file: BinaryIO, size: int, path: Path, *, is_last: bool) -> int:
        """Where the next record begins after one that does not fit its checksum; the end where there is none.

        Passes over a torn tail: where the file ends inside of the last record, or only zeros follow (a power
        cut). Anything else is damage and noted.
        """
        start = self.position.offset
        file.seek(start)
        head = file.read(HEAD.size)
        fits = len(head) == HEAD.size and start + HEAD.size + HEAD.unpack(head)[0] <= size
        found = _next_record(file, start, size)
        torn = is_last and found is None and (not fits or _only_zeros(file, start, size))
        if not torn:
            self.damaged.append(path)
        return size if found is None else found

    def _item(self, kind: Kind, payload: bytes) -> Item | None:
        if kind is Kind.CONTEXT:
            number, length = CONTEXT_HEAD.unpack_from(payload)
            start = CONTEXT_HEAD.size
            self._contexts[number] = (payload[start : start + length], payload[start + length :])
            return None
        number, key = ITEM_HEAD.unpack_from(payload)
        group = self._contexts.get(number, (b"", b""))
        item = Item(kind, key, payload[ITEM_HEAD.size :], group, self.position)
        if self.keep_starts:
            if kind is Kind.START:
                self.starts[key] = item
            else:
                self.starts.pop(key, None)
        return None if kind is Kind.START else item


def _record(file: BinaryIO, left: int) -> tuple[Kind, bytes] | None:
    """The record that begins here, or None where none does that fits its checksum."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, checksum, code = HEAD.unpack(head)
    if HEAD.size + length > left or length > MAX_RECORD_BYTES or code not in KINDS:
        return None
    payload = file.read(length)
    if zlib.crc32(payload, zlib.crc32(head[8:9])) != checksum:
        return None
    least = CONTEXT_HEAD.size if code == Kind.CONTEXT else ITEM_HEAD.size
    return (Kind(code), payload) if length >= least else None


def _next_record(file: BinaryIO, start: int, size: int) -> int | None:
    """Where the first whole record after `start` begins."""
    file.seek(start)
    head = file.read(HEAD.size)
    if len(head) == HEAD.size:
        # Mostly the payload is struck and the length is not: then the next one begins where it says.
        after = start + HEAD.size + int(HEAD.unpack(head)[0])
        if after < size:
            file.seek(after)
            if _record(file, size - after) is not None:
                return after
    file.seek(start + 1)
    rest = file.read(min(size - start - 1, 2 * MAX_RECORD_BYTES))
    stop_at_s = time.monotonic() + MAX_RESYNC_S
    for candidate in CANDIDATE.finditer(rest):
        begin = start + 1 + candidate.start()
        file.seek(begin)
        if _record(file, size - begin) is not None:
            return begin
        if time.monotonic() > stop_at_s:
            return None
    return None


def _only_zeros(file: BinaryIO, start: int, size: int) -> bool:
    file.seek(start)
    return not any(file.read(min(size - start, 2**16 + HEAD.size)))


class Orphan:
    """The folder of a producer that is no more, locked by us."""

    def __init__(self, folder: Path, lock_fd: int) -> None:
        self.folder = folder
        self._lock_fd = lock_fd
        self.acked = Position(0, 0)
        with contextlib.suppress(OSError, struct.error):
            self.acked = Position(*ACK.unpack((folder / "ack").read_bytes()))
        self.reading = Reading(folder, keep_starts=True)

    @property
    def age_s(self) -> float:
        """Seconds since anything was written to it."""
        return age_s_of(self.folder)

    def acknowledge(self, position: Position) -> None:
        """Remember that everything before the position has arrived."""
        self.acked = position
        (self.folder / "ack").write_bytes(ACK.pack(position.segment, position.offset))

    def release(self) -> None:
        """Leave the rest to another process, or to a later time."""
        os.close(self._lock_fd)

    def remove(self) -> None:
        """Everything in it has arrived."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()


def producers(root: Path) -> list[Path]:
    """The folders of all producers, living and ended."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [root / name for name in names if not name.startswith(".") and name != REFUSED]


def bytes_in(folder: Path) -> int:
    """Bytes of the files of a folder."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            # Its owner may remove it between the two steps.
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def age_s_of(folder: Path) -> float:
    """Seconds since a segment of the folder was written to; 0 where it has none."""
    youngest = 0.0
    for path in folder.glob("*.seg"):
        with contextlib.suppress(OSError):
            youngest = max(youngest, path.stat().st_mtime)
    return time.time() - youngest if youngest or any(folder.glob("*.seg")) else 0.0


def is_older(place: Path, seconds: float) -> bool:
    """Whether nothing was written for so long to a segment, or to any segment of a folder."""
    if place.is_dir():
        return age_s_of(place) > seconds
    try:
        return time.time() - place.stat().st_mtime > seconds
    except OSError:
        return False


def orphans(root: Path, endpoint: str, own: Path, max_age_s: float = float("inf")) -> Iterator[Orphan]:
    """Folders of ended producers that sent to the same endpoint, each locked by this process.

    Of other endpoints only those that nothing was written to for `max_age_s`: nobody may come for them, and
    they count towards the bytes of the spool.
    """
    for folder in producers(root):
        if folder == own:
            continue
        try:
            about = json.loads((folder / "about.json").read_text("utf-8"))
            if about["endpoint"] != endpoint and age_s_of(folder) <= max_age_s:
                continue
            fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last drainer may have removed it between our open and our lock.
            if os.fstat(fd).st_nlink == 0:
                raise FileNotFoundError(folder)
        except OSError:
            os.close(fd)
            continue
        yield Orphan(folder, fd)


def set_aside(root: Path, name: str, content: bytes, max_bytes: float = float("inf")) -> Path:
    """Keep what a collector refused for good, or a damaged file, where people can find it.

    Raises:
        OSError: it cannot be written, or the folder would hold more than `max_bytes`.
    """
    folder = root / REFUSED
    folder.mkdir(mode=0o700, exist_ok=True)
    if bytes_in(folder) + len(content) > max_bytes:
        raise OSError(errno.EDQUOT, f"{folder} is full: look at what it holds and remove it")
    path = folder / name
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.chmod(0o600)
    temporary.replace(path)
    return path
