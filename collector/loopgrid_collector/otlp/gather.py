"""Attributes of many rows as JSON objects, put together by one gathering copy.

The text of all rows is a sequence of pieces: brackets, keys, values, and what stands between the
characters that JSON escapes. All pieces lie in one pool; one `take` lays them out in order, and where its
result is cut into rows is arithmetic. Each byte of content is so copied twice, however much is escaped;
kernels that escape, quote and join in turn copy it ten times.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_FIRST_PRINTABLE: Final = 0x20

_ESCAPED: Final = (*range(_FIRST_PRINTABLE), _QUOTE, _BACKSLASH)
"""Characters that JSON text cannot hold as they are."""

# The fixed pieces, in pool order: escapes first, then what opens an entry, then what ends a row.
_OPENERS: Final = ("{", ",", '",')
_ENDS: Final = ("}", '"}', "{}")
_MARKS: Final = ('"',)
_FIXED: Final = pa.array(
    [orjson.dumps(chr(code)).decode()[1:-1] for code in _ESCAPED] + [*_OPENERS, *_ENDS, *_MARKS], pa.string()
)
_OPENER: Final = len(_ESCAPED)
_END: Final = _OPENER + len(_OPENERS)
_MARK: Final = _END + len(_ENDS)
_ESCAPE_OF: Final = np.zeros(256, dtype=np.int64)
_ESCAPE_OF[list(_ESCAPED)] = np.arange(len(_ESCAPED))

Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class _Segments:
    """Texts cut in front of and behind each character that JSON escapes, which so becomes a piece itself.

    Attributes:
        pieces: all pieces, in order.
        first: text → its first piece; one entry more, for the end. A text has an odd number of them.
    """

    def __init__(self, strings: pa.StringArray) -> None:
        data, bounds = _raw(strings)
        special = np.flatnonzero((data < _FIRST_PRINTABLE) | (data == _QUOTE) | (data == _BACKSLASH))
        before = np.searchsorted(special, bounds)
        texts = np.arange(len(bounds))
        self.first: Index = texts + 2 * before
        self._cut = np.repeat(texts[:-1], np.diff(before)) + 1 + 2 * np.arange(len(special))
        self._escape = _ESCAPE_OF[data[special]]
        cuts = np.empty(len(bounds) + 2 * len(special), dtype=np.int32)
        cuts[self.first], cuts[self._cut], cuts[self._cut + 1] = bounds, special, special + 1
        self.pieces = pa.StringArray.from_buffers(len(cuts) - 1, pa.py_buffer(cuts), pa.py_buffer(data))

    def order(self, at: int) -> Index:
        """Where in a pool that begins with the fixed pieces and has ours at ``at`` each piece is found."""
        found = np.arange(at, at + len(self.pieces))
        found[self._cut] = self._escape
        return found


def texts(strings: pa.StringArray) -> pa.StringArray:
    """Each text as JSON text; a null as the empty one."""
    cut = _Segments(strings)
    number = np.arange(len(strings))
    opening, closing = cut.first[:-1] + 2 * number, cut.first[1:] + 2 * number + 1
    order = np.full(len(cut.pieces) + 2 * len(strings), _MARK)
    is_piece = np.ones(len(order), dtype=np.bool_)
    is_piece[opening] = is_piece[closing] = False
    order[is_piece] = cut.order(len(_FIXED))
    laid = pa.concat_arrays([_FIXED, cut.pieces]).take(pa.array(order))
    return _cut(laid, np.append(opening, len(order)))


def objects(
    keys: list[str],
    code: npt.NDArray[np.int32],
    lengths: Index,
    strings: pa.StringArray,
    others: pa.StringArray,
    other: Index,
) -> pa.StringArray:
    """One JSON object per row, its members in the order received.

    Args:
        keys: the distinct keys.
        code: entry → index into ``keys``.
        lengths: row → how many entries it has.
        strings: entry → its text, null or anything where it is no text.
        others: JSON text of the values that are no text.
        other: entry → index into ``others``, below 0 where it is a text.
    """
    entries, rows = len(code), len(lengths)
    text = _Segments(strings)
    first = text.first
    named = [orjson.dumps(key).decode() + ":" for key in keys]
    named += [name + '"' for name in named]
    pool = pa.concat_arrays([_FIXED, pa.array(named, pa.string()), others, text.pieces])
    at_names = len(_FIXED)
    at_others = at_names + len(named)

    is_text = other < 0
    value = text.order(at_others + len(others))
    value[first[:-1][~is_text]] = at_others + other[~is_text]

    ends = np.cumsum(lengths)
    row = np.repeat(np.arange(rows), lengths)
    opening = first[:-1] + 2 * np.arange(entries) + row
    closing = first[ends] + 2 * ends + np.arange(rows)
    order = np.empty(len(value) + 2 * entries + rows, dtype=np.int64)
    is_value = np.ones(len(order), dtype=np.bool_)
    is_value[opening] = is_value[opening + 1] = is_value[closing] = False
    order[is_value] = value
    order[opening] = _OPENER + _opener(is_text, ends, lengths)
    order[opening + 1] = at_names + code + len(keys) * is_text
    order[closing] = _END + _closer(is_text, ends, lengths)
    laid = pool.take(pa.array(order))
    starts = np.concatenate(([0], closing + 1))
    return _cut(laid, starts)


def _opener(is_text: Mask, ends: Index, lengths: Index) -> npt.NDArray[np.int64]:
    """What stands in front of each entry's key: an open text is closed by what follows it."""
    found = np.ones(len(is_text), dtype=np.int64)
    found[1:] += is_text[:-1]
    found[(ends - lengths)[lengths > 0]] = 0
    return found


def _closer(is_text: Mask, ends: Index, lengths: Index) -> npt.NDArray[np.int64]:
    found = np.full(len(ends), 2, dtype=np.int64)
    filled = lengths > 0
    found[filled] = is_text[ends[filled] - 1]
    return found


def _raw(strings: pa.StringArray) -> tuple[npt.NDArray[np.uint8], Index]:
    """The bytes of all texts, and where each begins in them; a null is an empty text."""
    _, offsets, data = strings.buffers()
    count = len(strings)
    if data is None or not count:
        return np.empty(0, dtype=np.uint8), np.zeros(count + 1, dtype=np.int64)
    bounds = np.frombuffer(offsets, dtype=np.int32)[strings.offset : strings.offset + count + 1]
    if strings.null_count:
        absent = strings.is_null().to_numpy(zero_copy_only=False)
        if np.diff(bounds)[absent].any():
            # The format allows a null to have bytes; they are not to be read.
            return _raw(strings.fill_null(pa.scalar("", pa.string())))
    raw = np.frombuffer(data, dtype=np.uint8)[bounds[0] : bounds[-1]]
    return raw, (bounds - bounds[0]).astype(np.int64)


def _cut(laid: Any, starts: Index) -> pa.StringArray:
    """The pieces from each start to the next as one text."""
    _, offsets, data = laid.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[laid.offset : laid.offset + len(laid) + 1]
    return pa.StringArray.from_buffers(len(starts) - 1, pa.py_buffer(bounds[starts]), data)
