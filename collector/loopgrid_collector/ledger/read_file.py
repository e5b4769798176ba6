"""Writes the beginning of a file to standard output; a program of its own, run by ``snapshot``.

In a process of its own because of POSIX locks: whoever closes any descriptor of a file gives up all locks
that its process holds on it, and the server would lose DuckDB's lock on the ledger.
"""

from __future__ import annotations

import sys

PIECE_BYTES = 2**20


def main(path: str, size: int) -> int:
    """Copy ``size`` bytes. 1 where the file has fewer."""
    with open(path, "rb") as file:  # noqa: PTH123 — pathlib costs a third of this program's start
        while size:
            piece = file.read(min(size, PIECE_BYTES))
            if not piece:
                return 1
            sys.stdout.buffer.write(piece)
            size -= len(piece)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
