"""Whole results of clients' SQL in columns: an Arrow stream, or a Parquet file.

Laws:

* Nothing is left out quietly. Where a result grows beyond its limit, an Arrow stream breaks off without its
  end, which every reader notices; a Parquet file is refused before its first byte.
* A stream holds its cursor and its place among the running statements until it is closed. The time limit of
  a statement covers the sending: who reads too slowly loses the answer, and nobody else does.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from loopgrid_query.errors import SqlTooCostly

BATCH_ROWS: Final = 2048
"""Rows that are read and sent at once, where a column may hold content."""

NARROW_BATCH_ROWS: Final = 16_384
"""The same where none does: a batch costs most of a millisecond, whatever is in it."""

PIECE_BYTES: Final = 2**20
"""Size of the pieces in which a file is sent."""

# Content is JSON; a text is a name, or what somebody made of content.
_LARGE: Final = re.compile(r"JSON|BLOB|[(\[]")
_IN_MEMORY_BYTES: Final = 8 * 2**20


class Rows:
    """The record batches of a statement that runs."""

    def __init__(
        self,
        result: duckdb.DuckDBPyConnection,
        held: ExitStack,
        explained: Callable[[Exception], Exception],
        most_bytes: int,
    ) -> None:
        """Begin to read; what the statement does wrong shows here.

        Args:
            result: a statement that was executed.
            held: what is let go of at the end.
            explained: what a failure means to the client.
            most_bytes: bytes of values in memory, counted together, before it is too much.
        """
        self._held = held
        self._explained = explained
        self._left_bytes = self._most_bytes = most_bytes
        kinds = [str(column[1]) for column in result.description or ()]
        self._reader = result.to_arrow_reader(batch_rows(kinds))
        self.schema: pa.Schema = self._reader.schema
        try:
            self._first = self._read()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Raises: SqlTooCostly, SqlInvalid: as ``Analytics.run``."""
        try:
            batch = self._first
            while batch is not None:
                yield batch
                batch = self._read()
        finally:
            self.close()

    def _read(self) -> pa.RecordBatch | None:
        try:
            batch = self._reader.read_next_batch()
        except StopIteration:
            return None
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._explained(error) from error
        self._left_bytes -= batch.nbytes
        if self._left_bytes < 0:
            raise SqlTooCostly(
                f"The result is larger than {self._most_bytes} bytes. Read fewer columns or rows, or page by "
                "a key."
            )
        return batch

    def close(self) -> None:
        """Let go of the cursor. Said twice, it is heard once."""
        self._held.close()

    def __del__(self) -> None:
        # An answer whose client went away before its first byte is never iterated.
        self.close()


def batch_rows(kinds: Sequence[str]) -> int:
    """How many rows are read at once, given the types of their columns."""
    return BATCH_ROWS if any(_LARGE.search(kind) for kind in kinds) else NARROW_BATCH_ROWS


class _Pipe(io.RawIOBase):
    """A file that is written by one and emptied by another, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any, /) -> int:
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def arrow_stream(rows: Rows) -> Iterator[bytes]:
    """The rows in the Arrow IPC streaming format, while they are read."""
    pipe = _Pipe()
    with pa.ipc.new_stream(pipe, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
            yield pipe.taken()
    yield pipe.taken()


def parquet_file(rows: Rows) -> IO[bytes]:
    """The rows as a Parquet file (zstd), at its beginning. Large ones stand on disk, without a name."""
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - handed on
    try:
        with pq.ParquetWriter(file, rows.schema, compression="zstd") as writer:
            for batch in rows:
                writer.write_batch(batch)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """A file in pieces; it is closed after the last."""
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece
