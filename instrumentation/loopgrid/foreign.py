"""Arrays, tables and images of libraries that are not imported for it: known by where their types come from.

A small one is written out, of a large one its shape, its type and the SHA-256 of its content. Nothing is
loaded, computed or fetched for it: an image that has not been read from its file yet is not read now.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from loopgrid.config import CaptureLimits

MAX_COLUMNS: Final = 100
"""Columns of a large table that are named."""
MAX_TYPES: Final = 1000
"""Types whose form is remembered."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A value that stands for the foreign one and is written in its place."""

    value: object


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of a foreign value.

    Attributes:
        mark: the key of the marked form.
        facts: its content, JSON natives.
        loss: what `lossiness` says.
    """

    mark: str
    facts: Mapping[str, Any]
    loss: str


Form = Callable[[Any, CaptureLimits], Shown | Summary]


def form_of(kind: type) -> Form | None:
    """How values of a type are written, or None where nothing is known about it."""
    if kind in _known:
        return _known[kind]
    found = next((form for base in kind.__mro__ if (form := _FORMS.get(_origin(base))) is not None), None)
    if len(_known) >= MAX_TYPES:
        _known.clear()
    _known[kind] = found
    return found


def is_lazy(kind: type) -> bool:
    """Whether showing a value of the type may do work: it is an iterable that says itself how it is shown.

    The `repr` of a database query runs the query.
    """
    return hasattr(kind, "__iter__") and isinstance(getattr(kind, "__repr__", None), types.FunctionType)


def _origin(kind: type) -> tuple[str, str]:
    return str(kind.__module__).partition(".")[0], kind.__name__


def _array(value: Any, limits: CaptureLimits) -> Shown | Summary:
    kind = value.dtype.kind
    if value.size <= limits.max_array_items and value.nbytes <= limits.max_digest_bytes:
        # Moments as ISO 8601; their own numbers depend on the unit.
        return Shown(value.astype(str).tolist() if kind in "Mm" else value.tolist())
    facts: dict[str, Any] = {
        "type": "numpy.ndarray",
        "shape": list(value.shape),
        "dtype": str(value.dtype),
        "bytes": int(value.nbytes),
    }
    if value.nbytes <= limits.max_digest_bytes and not value.dtype.hasobject:
        facts["sha256"] = hashlib.sha256(value.tobytes()).hexdigest()
    return _summary("$array", facts)


def _scalar(value: Any, limits: CaptureLimits) -> Shown:
    del limits
    plain = str(value) if value.dtype.kind in "Mm" else value.item()
    # A wider float than Python's is its own item.
    return Shown(str(value) if type(plain) is type(value) else plain)


def _pandas_frame(value: Any, limits: CaptureLimits) -> Shown | Summary:
    rows, columns = value.shape
    if rows * max(1, columns) <= limits.max_array_items:
        written = value.to_dict(orient="split")
        return Shown({name: written[name] for name in ("columns", "index", "data")})
    kinds = [[str(name), str(kind)] for name, kind in list(value.dtypes.items())[:MAX_COLUMNS]]
    size = int(value.memory_usage(deep=False).sum())
    facts = {"type": "pandas.DataFrame", "shape": [rows, columns], "columns": kinds, "bytes": size}
    return _summary("$array", facts | _pandas_digest(value, size, limits))


def _pandas_series(value: Any, limits: CaptureLimits) -> Shown | Summary:
    if value.size <= limits.max_array_items:
        return Shown({"name": value.name, "index": value.index.tolist(), "data": value.tolist()})
    size = int(value.memory_usage(deep=False))
    facts = {"type": "pandas.Series", "shape": [value.size], "dtype": str(value.dtype), "bytes": size}
    return _summary("$array", facts | _pandas_digest(value, size, limits))


def _pandas_index(value: Any, limits: CaptureLimits) -> Shown | Summary:
    if value.size <= limits.max_array_items:
        return Shown(value.tolist())
    return _summary("$array", {"type": "pandas.Index", "shape": [int(value.size)], "dtype": str(value.dtype)})


def _pandas_digest(value: Any, size: int, limits: CaptureLimits) -> dict[str, str]:
    """SHA-256 over pandas' own hash of each row, which sees values and not how they lie in memory."""
    if size > limits.max_digest_bytes:
        return {}
    hashes = sys.modules["pandas"].util.hash_pandas_object(value)
    return {"sha256_of_row_hashes": hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()}


def _polars_frame(value: Any, limits: CaptureLimits) -> Shown | Summary:
    rows, columns = value.shape
    if rows * max(1, columns) <= limits.max_array_items:
        return Shown({"columns": value.columns, "data": value.rows()})
    kinds = [[name, str(kind)] for name, kind in list(value.schema.items())[:MAX_COLUMNS]]
    size = int(value.estimated_size())
    facts = {"type": "polars.DataFrame", "shape": [rows, columns], "columns": kinds, "bytes": size}
    return _summary("$array", facts)


def _polars_series(value: Any, limits: CaptureLimits) -> Shown | Summary:
    if len(value) <= limits.max_array_items:
        return Shown({"name": value.name, "data": value.to_list()})
    size = int(value.estimated_size())
    facts = {"type": "polars.Series", "shape": [len(value)], "dtype": str(value.dtype), "bytes": size}
    return _summary("$array", facts)


def _image(value: Any, limits: CaptureLimits) -> Summary:
    width, height = value.size
    facts: dict[str, Any] = {"mode": str(value.mode), "size": [int(width), int(height)]}
    # One that is opened and not read yet has no pixels, and reading them now would read its file.
    if value.__dict__.get("_im", value.__dict__.get("im")) is None:
        return Summary("$image", facts, "image_not_loaded")
    # An estimate before anything is copied: at most four bytes a pixel in the usual modes.
    if width * height * 4 > limits.max_digest_bytes:
        return Summary("$image", facts, f"image_omitted:{width}x{height}")
    pixels = value.tobytes()
    facts |= {"bytes": len(pixels), "sha256": hashlib.sha256(pixels).hexdigest()}
    if len(pixels) > limits.max_image_bytes:
        return Summary("$image", facts, f"image_omitted:{len(pixels)}:sha256={facts['sha256']}")
    written = io.BytesIO()
    value.save(written, "PNG")
    return Summary("$image", facts | {"png": base64.b64encode(written.getvalue()).decode()}, "")


def _summary(mark: str, facts: Mapping[str, Any]) -> Summary:
    size = facts.get("bytes", "?")
    digest = next((f":sha256={value}" for name, value in facts.items() if name.startswith("sha256")), "")
    return Summary(mark, facts, f"array_omitted:{size}{digest}")


_FORMS: Final[dict[tuple[str, str], Form]] = {
    ("numpy", "ndarray"): _array,
    ("numpy", "generic"): _scalar,
    ("pandas", "DataFrame"): _pandas_frame,
    ("pandas", "Series"): _pandas_series,
    ("pandas", "Index"): _pandas_index,
    ("polars", "DataFrame"): _polars_frame,
    ("polars", "Series"): _polars_series,
    ("PIL", "Image"): _image,
}
"""By top-level module and class name."""

_known: Final[dict[type, Form | None]] = {}
