"""A consistent copy of a ledger, as a tar stream, while it takes more.

Between two checkpoints DuckDB changes nothing in its file that a reader of the last checkpoint would see;
what is committed stands in the log. So a copy of the file, of the log up to the end of one commit, and the
head of that commit are the ledger as it was then. Checkpoints wait while a copy is read; commits do not.

The files are read by another process (see ``read_file``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from loopgrid_collector.errors import StorageTrouble
from loopgrid_collector.ledger import head as heads
from loopgrid_collector.ledger.head import Head

NAME: Final = "ledger.duckdb"
"""Name of the ledger in a snapshot; its log and its head have the usual endings."""

WAL_SUFFIX: Final = ".wal"
_PIECE_BYTES: Final = 2**20
_READER: Final = Path(__file__).with_name("read_file.py")


@dataclass(frozen=True, slots=True)
class Extent:
    """What of a ledger's files belongs to a snapshot.

    Attributes:
        path: the ledger's file.
        file_bytes: its size.
        wal_bytes: length of the log up to the end of the newest commit; 0 where there is none.
        head: that commit.
    """

    path: Path
    file_bytes: int
    wal_bytes: int
    head: Head

    @property
    def tar_bytes(self) -> int:
        """Length of the stream."""
        sizes = [self.file_bytes, len(self._head_text()), *([self.wal_bytes] if self.wal_bytes else [])]
        return sum(tarfile.BLOCKSIZE + _padded(size) for size in sizes) + 2 * tarfile.BLOCKSIZE

    def _head_text(self) -> bytes:
        return json.dumps(asdict(self.head)).encode()

    def stream(self, intact: Callable[[], bool] = lambda: True) -> Iterator[bytes]:
        """The snapshot in the tar format, piece by piece.

        Args:
            intact: whether the files are still those of the extent; asked before the head.

        Raises:
            StorageTrouble: a file became shorter, or is no longer the one it was. What was sent is no
                snapshot, and has no head.
        """
        yield _header(NAME, self.file_bytes)
        yield from _contents(self.path, self.file_bytes)
        if self.wal_bytes:
            yield _header(NAME + WAL_SUFFIX, self.wal_bytes)
            yield from _contents(wal_of(self.path), self.wal_bytes)
        if not intact():
            raise StorageTrouble("The ledger was opened anew while it was copied; take the snapshot again.")
        text = self._head_text()
        yield _header(NAME + heads.SUFFIX, len(text)) + text + bytes(_padded(len(text)) - len(text))
        yield bytes(2 * tarfile.BLOCKSIZE)


def wal_of(path: Path) -> Path:
    """Where DuckDB keeps the log of a file."""
    return path.with_name(path.name + WAL_SUFFIX)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _contents(path: Path, size: int) -> Iterator[bytes]:
    command = [sys.executable, "-I", "-S", str(_READER), str(path), str(size)]
    # Our own interpreter and program, and a path that the operator gave.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as reader:  # noqa: S603
        if reader.stdout is None:
            raise AssertionError("a pipe was asked for")
        try:
            while piece := reader.stdout.read(_PIECE_BYTES):
                yield piece
        except BaseException:
            reader.kill()
            raise
    if reader.returncode:
        raise StorageTrouble(f"{path.name} could not be read to its end; take the snapshot again.")
    yield bytes(_padded(size) - size)
