"""Memory that is given back and taken again for each request costs more than the work done in it."""

from __future__ import annotations

import ctypes
import platform
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 256 * 2**20
"""Free memory at the end of the heap that stays with the process."""
LARGEST_IN_HEAP_BYTES: Final = 32 * 2**20
"""glibc's own maximum."""


def keep() -> bool:
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
