"""Files of an export while they grow: everything can be cut back to where it was at the last saved state."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

PART: Final = ".part"
"""What the name of an unfinished file ends in."""

ROW_GROUP_ROWS: Final = 8192
"""Rows of a Parquet row group."""


@dataclass(slots=True)
class Size:
    """How far a file has come.

    Attributes:
        bytes: its length.
        rows: rows in it.
    """

    bytes: int = 0
    rows: int = 0


class Part:
    """One growing file."""

    def __init__(self, path: Path, size: Size) -> None:
        """Open it, cut back to a size.

        Raises:
            ValueError: it is shorter than that.
        """
        self.path = path
        self.size = size
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        if self._file.seek(0, os.SEEK_END) < size.bytes:
            self._file.close()
            raise ValueError(f"{path} is shorter than its state says")
        self._file.seek(size.bytes)
        self._file.truncate()

    def write(self, data: bytes | memoryview, rows: int) -> None:
        """Append rows."""
        self._file.write(data)
        self.size.bytes += len(data)
        self.size.rows += rows

    def write_table(self, table: pa.Table) -> None:
        """Append rows as messages of an Arrow stream, which begins with the schema."""
        if not self.size.bytes:
            self.write(table.schema.serialize().to_pybytes(), 0)
        for batch in table.combine_chunks().to_batches():
            self.write(batch.serialize().to_pybytes(), batch.num_rows)

    def sync(self) -> None:
        """Make durable what was appended."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def parquet_from(spool: Path, target: Path) -> None:
    """The rows of a spool as Parquet, in row groups of ``ROW_GROUP_ROWS`` however they came.

    The same rows give the same bytes.
    """
    with (
        pa.OSFile(str(spool), "rb") as source,
        pa.ipc.open_stream(source) as stream,
        pq.ParquetWriter(target, stream.schema, compression="zstd") as writer,
    ):
        for table in _groups(stream):
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def _groups(stream: pa.ipc.RecordBatchStreamReader) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in stream:
        waiting.append(batch)
        rows += batch.num_rows
        while rows >= ROW_GROUP_ROWS:
            table = pa.Table.from_batches(waiting, stream.schema)
            yield table.slice(0, ROW_GROUP_ROWS).combine_chunks()
            waiting = table.slice(ROW_GROUP_ROWS).to_batches()
            rows -= ROW_GROUP_ROWS
    if rows:
        yield pa.Table.from_batches(waiting, stream.schema).combine_chunks()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a small JSON file, whole or not at all, durably."""
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
