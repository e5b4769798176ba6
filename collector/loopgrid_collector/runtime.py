"""What a process that runs for long tells its libraries once, at its start."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import platform
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 256 * 2**20
"""Free memory at the end of the heap that stays with the process."""
YOUNG_OBJECTS: Final = 20_000
"""New objects after which the garbage collector looks at these."""
LARGEST_IN_HEAP_BYTES: Final = 32 * 2**20
"""glibc's own maximum."""


def keep_memory() -> bool:
    """Let the C library keep freed blocks of request size, where it is one that can be told.

    By default glibc maps every block over 128 KiB anew and returns it after use, so that each pass over a
    request pays for fresh pages: measured, a third of the time of decoding (docs/adr/0008).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = [
        mallopt(_M_MMAP_THRESHOLD, LARGEST_IN_HEAP_BYTES),
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES),
    ]
    return all(done)


def spare_the_old() -> None:
    """Let the garbage collector leave alone what is there now, and look at the old less often.

    For a server whose start is done. Its modules and routes are some hundred thousand objects that never go
    away; to look at all of them stopped every request for 40 ms, about once a second under small requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)


class _Absent:
    """A finder that knows at once that some modules are not there."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """None, so that others look for the module.

        Raises:
            ModuleNotFoundError: it is one that is not there.
        """
        if name in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def settle_absent_modules() -> None:
    """Let an import that cannot succeed fail at once. For a process that is a server and nothing else.

    DuckDB's client looks for pandas whenever it is handed a table or a parameter, and where there is none, it
    searches the whole path each time: measured, 2 ms of a commit.
    """
    if any(isinstance(finder, _Absent) for finder in sys.meta_path):
        return
    absent = frozenset(name for name in ("pandas",) if importlib.util.find_spec(name) is None)
    if absent:
        sys.meta_path.insert(0, _Absent(absent))
