"""Merkle tree hash of RFC 6962, section 2.1. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of the leaves, in order.

    RFC 6962 splits at the largest power of two below the size. Folding neighbours level by level and
    carrying an odd last node up unchanged gives the same tree without recursion.
    """
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [hashlib.sha256(_LEAF + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        paired = [
            hashlib.sha256(_NODE + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]
