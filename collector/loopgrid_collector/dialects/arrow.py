"""A few column operations, spelled so that they cost what they should.

Arrow looks for a date library whenever it has to guess the type of a Python value, which takes a
quarter of a millisecond each time; so every scalar here has its type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]

TEXT: Final = pa.string()
TEXTS: Final = pa.list_(TEXT)
_FALSE: Final = pa.scalar(value=False, type=pa.bool_())


def scalar(text: str | None) -> pa.StringScalar:
    """A text, or null, as an operand."""
    return pa.scalar(text, TEXT)


EMPTY: Final = scalar("")
COMMA: Final = scalar(",")


def true(column: pa.BooleanArray) -> Mask:
    """Which rows of a column are true; null is not."""
    return np.array(column.fill_null(_FALSE), dtype=np.bool_)


def missing(column: pa.Array) -> Mask:
    """Which rows of a column are null."""
    return np.array(column.is_null(), dtype=np.bool_)


def equal(column: pa.Array, text: str) -> Mask:
    """Which rows of a text column hold exactly this."""
    return true(pc.equal(column, scalar(text)))


def containing(column: pa.StringArray, text: str) -> Mask:
    """Which rows of a text column contain this."""
    if column.null_count == len(column):
        return np.zeros(len(column), dtype=np.bool_)
    return true(pc.match_substring(column, text))


def only_where(mask: Mask, column: pa.Array) -> pa.Array:
    """The column, with null outside the mask."""
    if column.null_count == len(column) or mask.all():
        return column
    return pc.if_else(pa.array(mask), column, pa.scalar(None, column.type))


def without_empty(column: pa.StringArray) -> pa.StringArray:
    """The column, with null for the empty text."""
    empty = true(pc.equal(column, EMPTY))
    return only_where(~empty, column) if empty.any() else column


def joined(*pieces: pa.Array | str) -> pa.StringArray:
    """Texts put together row by row; null where a piece is null."""
    operands = [scalar(piece) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*operands, EMPTY)


def map_distinct(column: pa.Array, function: Callable[[str], Any], kind: pa.DataType) -> pa.Array:
    """A function over a text column, called once per distinct value; null stays null."""
    encoded = column.dictionary_encode()
    mapped = pa.array([function(value) for value in encoded.dictionary.to_pylist()], kind)
    return mapped.take(encoded.indices)
