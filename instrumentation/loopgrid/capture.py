"""Any Python value → bounded JSON text that always parses, and a list of what did not fit.

Laws:

* Values are looked at, never changed, copied deeply or consumed: an iterator is an object with a name, not
  its items.
* What JSON can hold is written as itself. What it cannot is written in a marked form, an object with one
  key of `MARKS`; a map that looks like one is written as `$map`, so that the marks are never ambiguous:

  | form | stands for | can be read back |
  |---|---|---|
  | `{"$bytes": base64}` | bytes | yes |
  | `{"$double": "NaN"}` | NaN, Infinity, -Infinity | yes |
  | `{"$int": "…"}` | an integer beyond 64 bits | yes |
  | `{"$map": [[key, value], …]}` | a map whose keys are not all plain text | yes |
  | `{"$blob": {"bytes", "sha256"}}` | bytes over the limit | no |
  | `{"$truncated": {"text", "bytes", "sha256"}}` | text over the limit, with its beginning | no |
  | `{"$omitted": …}` | what lies beyond the depth or item limit, or inside itself | no |
  | `{"$array": {"type", "shape", "dtype", "bytes", "sha256"}}` | an array or table over the limit | no |
  | `{"$image": {"mode", "size", "bytes", "sha256"}}` | an image; with `png` below the limit | no |
  | `{"$repr": {"type", "text"}}` | an object without a JSON form | no |

* Only plain containers and known types are iterated. An iterable of another type that says itself how it is
  shown is named, not shown: the `repr` of a database query runs the query.
* Dataclasses, attrs classes and named tuples are objects by field name, pydantic models what they dump, enums
  their value, dates ISO 8601, timedeltas seconds, sets sorted lists. Their type is not written: type hints
  restore it.
* Foreign code (a `repr`, a property, a dump) may do anything; what it raises costs its own value only.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import json
import math
import os
import pathlib
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from loopgrid.config import CaptureLimits
from loopgrid.foreign import Shown, Summary, form_of, is_lazy

LOSSY_MARKS: Final = frozenset({"$blob", "$truncated", "$omitted", "$repr", "$array", "$image"})
MARKS: Final = frozenset({"$bytes", "$double", "$int", "$map"}) | LOSSY_MARKS

MAX_INT64: Final = 2**63 - 1
MAX_INT_BITS: Final = 4096
"""Larger integers are not written out: their decimal text costs quadratic time."""
ITEMS_BETWEEN_LOOKS: Final = 64
"""Values written between two looks at the clock."""
MAX_STEP_CHARS: Final = 64
"""Characters of one key that a path in `lossiness` shows."""

_ON_DISK: Final = frozenset({"shelve", "dbm", "_dbm", "_gdbm", "h5py", "zarr", "diskcache"})
"""Modules whose mappings are files."""
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


class Losses:
    """What is missing from one record: entries `<where>:<what>[:<details>]`, in order, each once."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[str, None] = {}

    def note(self, where: str, what: str, *, first: bool = False) -> None:
        """Add an entry; `first` puts it before the others, where no limit cuts it off."""
        entry = utf8(f"{where}:{what}")
        if first:
            self._entries = {entry: None, **self._entries}
        else:
            self._entries[entry] = None

    def entries(self, limit: int) -> list[str]:
        """The entries; of more than `limit`, a last one says how many were left out."""
        entries = list(self._entries)
        if len(entries) <= limit:
            return entries
        return [*entries[:limit], f"more:{len(entries) - limit}"]


def capture(value: object, where: str, limits: CaptureLimits, losses: Losses, *, vague: bool = False) -> str:
    """JSON text of a value; what is missing from it is noted under the name `where`.

    With `vague`, so is a type which JSON does not keep, as of an argument without a type hint.
    """
    walk = _Walk(where, limits, losses)
    written = walk.visit(value)
    if vague and walk.untyped:
        losses.note(where, f"untyped:{walk.untyped}")
    return _dump(written)


def capture_arguments(
    arguments: Mapping[str, object], vague: frozenset[str], where: str, limits: CaptureLimits, losses: Losses
) -> str:
    """JSON text of arguments by name.

    An argument in `vague` has no type hint that could restore its type; if it holds a value whose type JSON
    does not keep (a date, a set), that is noted as `untyped`.
    """
    walk = _Walk(where, limits, losses)
    written = {
        utf8(name): walk.argument(name, value, vague=name in vague) for name, value in arguments.items()
    }
    return _dump(written)


def plain(value: object, where: str, limits: CaptureLimits, losses: Losses) -> Any:
    """The value as JSON natives (None, bool, int, float, str, list, dict), marked forms included."""
    return _Walk(where, limits, losses).visit(value)


def text(value: str, where: str, max_bytes: int, losses: Losses) -> str:
    """A text fact as it can be written: valid UTF-8, at most `max_bytes` of it, losses noted."""
    exact = str.__str__(value)
    if exact.isascii() and len(exact) <= max_bytes:
        return exact
    written = utf8(exact)
    if written != exact:
        losses.note(where, "replaced_characters")
    data = written.encode()
    if len(data) <= max_bytes:
        return written
    losses.note(where, f"truncated:{len(data)}:sha256={hashlib.sha256(data).hexdigest()}")
    return data[:max_bytes].decode(errors="ignore")


def utf8(value: str) -> str:
    """The text with everything UTF-8 cannot hold (lone surrogates) replaced by `?`."""
    return value if value.isascii() else value.encode(errors="replace").decode()


# Made once: json.dumps makes an encoder for each call that is not by its defaults.
_dump: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Sequel:
    """JSON of a list whose items come one after another, under one budget.

    Attributes:
        count: items written so far.
    """

    __slots__ = ("_items", "_walk", "count")

    def __init__(self, where: str, limits: CaptureLimits, losses: Losses) -> None:
        self._walk = _Walk(where, limits, losses)
        self._items: list[str] = []
        self.count = 0

    def add(self, value: object) -> None:
        """Write the next item, unless the budget is used up."""
        if self._walk.spent:
            return
        self._items.append(_dump(self._walk.item(self.count, value)))
        self.count += 1

    def written(self, size: int) -> str:
        """JSON text of the list, which had `size` items."""
        omitted = [f'{{"$omitted":{size - self.count}}}'] if self.count < size else []
        return f"[{','.join(self._items + omitted)}]"


class _Walk:
    """One pass over one value, with what is left of its budget."""

    def __init__(self, where: str, limits: CaptureLimits, losses: Losses) -> None:
        self._limits = limits
        self._losses = losses
        self._where = where
        self._path: list[str] = []
        self._open: list[int] = []
        self._bytes_left = limits.max_content_bytes
        self._items_left = limits.max_items
        self._untyped = ""
        self._give_time()

    def _give_time(self) -> None:
        self._stop_at_s = time.monotonic() + self._limits.max_capture_s
        self._look_at = self._items_left - ITEMS_BETWEEN_LOOKS

    def _late(self) -> bool:
        """Whether the time is over; the clock is looked at every few items."""
        if self._items_left > self._look_at:
            return False
        self._look_at = self._items_left - ITEMS_BETWEEN_LOOKS
        if time.monotonic() < self._stop_at_s:
            return False
        # What comes after finds no room either.
        self._look_at = self._items_left = 0
        return True

    @property
    def untyped(self) -> str:
        """The first type that JSON does not keep."""
        return str(self._untyped)

    @property
    def spent(self) -> bool:
        """Whether there is no room for one more value."""
        return self._items_left <= 0 or self._bytes_left <= 0

    def item(self, index: int, value: object) -> Any:
        """One item of a list, under its index; each has the time of a whole capture."""
        self._give_time()
        return self._inside(f"[{index}]", value)

    def argument(self, name: str, value: object, *, vague: bool) -> Any:
        self._untyped = ""
        written = self._inside(f".{name}", value)
        untyped = str(self._untyped)
        if vague and untyped:
            self._losses.note(f"{self._where}.{name}", f"untyped:{untyped}")
        return written

    def visit(self, value: object) -> Any:
        kind = type(value)
        self._items_left -= 1
        if self._late():
            self._note("time_limit")
            return {"$omitted": "time"}
        if kind is str:
            return self._text(value)  # type: ignore[arg-type]
        if (
            value is None
            or kind is bool
            or (kind is int and -MAX_INT64 <= value <= MAX_INT64)  # type: ignore[operator]
            or (kind is float and math.isfinite(value))  # type: ignore[arg-type]
        ):
            return value
        depth, nesting = len(self._path), len(self._open)
        try:
            return self._other(value, kind)
        except Exception as error:  # noqa: BLE001 - foreign code ran: a repr, a property, a dump
            del self._path[depth:], self._open[nesting:]
            self._note(f"unreadable:{type(error).__name__}")
            return {"$repr": {"type": _name(kind), "text": ""}}

    def _other(self, value: Any, kind: type) -> Any:
        if issubclass(kind, enum.Enum):
            self._converted(kind)
            return self._inside("", value.value)
        if issubclass(kind, (str, int, float)):
            if kind not in {str, int, float}:
                self._converted(kind)
            return self._scalar(value)
        if issubclass(kind, (bytes, bytearray, memoryview)):
            if kind is not bytes:
                self._converted(kind)
            return self._binary(bytes(value))
        simple = _SIMPLE.get(kind) or next(
            (form for base, form in _SIMPLE.items() if issubclass(kind, base)), None
        )
        if simple is not None:
            self._converted(kind)
            return self._inside("", simple(value))
        return self._nested(value, kind)

    def _nested(self, value: Any, kind: type) -> Any:
        if id(value) in self._open:
            self._note("cycle")
            return {"$omitted": "cycle"}
        if len(self._open) >= self._limits.max_depth:
            self._note(f"depth:{_name(kind)}")
            return {"$omitted": "depth"}
        self._open.append(id(value))
        written = self._container(value, kind)
        self._open.pop()
        return written

    def _container(self, value: Any, kind: Any) -> Any:
        if kind is dict:
            return self._map(value.items(), len(value))
        if kind is not list and kind is not tuple and (form := form_of(kind)) is not None:
            return self._foreign(form(value, self._limits), kind)
        if issubclass(kind, Mapping) and _is_held_in_memory(kind):
            pairs, size = value.items(), len(value)
        elif hasattr(kind, "__loopgrid_plain__"):
            pairs, size = kind.__loopgrid_plain__(value).items(), 0
        elif hasattr(kind, "__dataclass_fields__"):
            names = [field.name for field in dataclasses.fields(kind)]
            pairs, size = ((name, getattr(value, name)) for name in names), len(names)
        elif hasattr(kind, "__attrs_attrs__"):
            names = [attribute.name for attribute in kind.__attrs_attrs__]
            pairs, size = ((name, getattr(value, name)) for name in names), len(names)
        elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
            pairs, size = zip(kind._fields, value, strict=True), len(value)
        else:
            return self._sequence_or_object(value, kind)
        self._converted(kind)
        return self._map(pairs, size)

    def _foreign(self, form: Shown | Summary, kind: type) -> Any:
        if isinstance(form, Shown):
            self._converted(kind)
            return self._inside("", form.value)
        if form.loss:
            self._note(form.loss)
        written = plain(form.facts, "", self._limits, Losses())
        self._bytes_left -= len(_dump(written))
        return {form.mark: written}

    def _sequence_or_object(self, value: Any, kind: type) -> Any:
        if kind is not list:
            self._converted(kind)
        if issubclass(kind, (list, tuple, deque)):
            return self._list(value, len(value))
        if issubclass(kind, (set, frozenset)):
            return sorted(self._list(value, len(value)), key=_dump)
        if callable(getattr(kind, "model_dump", None)):
            return self._inside("", value.model_dump(mode="json", warnings=False))
        return self._repr(value, kind)

    def _map(self, pairs: Iterable[tuple[Any, Any]], size: int) -> Any:
        written: list[tuple[Any, Any]] = []
        for key, value in islice(pairs, max(0, self._items_left)):
            step = f".{key[:MAX_STEP_CHARS]}" if isinstance(key, str) else f"[{type(key).__name__}]"
            written.append((self._key(key), self._inside(step, value)))
            if self._items_left <= 0:
                break
        omitted = size - len(written)
        if omitted > 0:
            self._note(f"items_omitted:{omitted}")
        if _is_plain([key for key, _ in written]):
            return dict(written) | ({"$omitted": omitted} if omitted > 0 else {})
        return {"$map": [list(pair) for pair in written] + ([{"$omitted": omitted}] if omitted > 0 else [])}

    def _key(self, key: object) -> Any:
        if type(key) is str and key.isascii():
            self._bytes_left -= len(key)
            return key
        return self._inside("[key]", key)

    def _list(self, values: Iterable[Any], size: int) -> list[Any]:
        written: list[Any] = []
        for index, value in enumerate(islice(values, max(0, self._items_left))):
            written.append(self._inside(f"[{index}]", value))
            if self._items_left <= 0:
                break
        if len(written) < size:
            self._note(f"items_omitted:{size - len(written)}")
            written.append({"$omitted": size - len(written)})
        return written

    def _inside(self, step: str, value: object) -> Any:
        self._path.append(step)
        written = self.visit(value)
        self._path.pop()
        return written

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, float):
            number = float.__float__(value)
            return number if math.isfinite(number) else {"$double": _double(number)}
        return self._integer(int.__int__(value))

    def _integer(self, whole: int) -> Any:
        if -MAX_INT64 <= whole <= MAX_INT64:
            return whole
        if whole.bit_length() <= MAX_INT_BITS:
            return {"$int": str(whole)}
        self._note(f"repr:int of {whole.bit_length()} bits")
        return {"$repr": {"type": "int", "text": f"{whole.bit_length()} bits"}}

    def _text(self, value: str) -> Any:
        if value.isascii() and len(value) <= self._bytes_left:
            self._bytes_left -= len(value)
            return value
        written = utf8(value)
        if written != value:
            self._note("replaced_characters")
        data = written.encode()
        if len(data) <= self._bytes_left:
            self._bytes_left -= len(data)
            return written
        digest = hashlib.sha256(data).hexdigest()
        head = data[: max(0, self._bytes_left)].decode(errors="ignore")
        self._bytes_left = 0
        self._note(f"truncated:{len(data)}:sha256={digest}")
        return {"$truncated": {"text": head, "bytes": len(data), "sha256": digest}}

    def _binary(self, data: bytes) -> Any:
        if len(data) <= min(self._limits.max_inline_bytes, self._bytes_left):
            self._bytes_left -= len(data)
            return {"$bytes": base64.b64encode(data).decode()}
        digest = hashlib.sha256(data).hexdigest()
        self._note(f"bytes_omitted:{len(data)}:sha256={digest}")
        return {"$blob": {"bytes": len(data), "sha256": digest}}

    def _repr(self, value: object, kind: type) -> Any:
        name = _name(kind)
        if is_lazy(kind):
            self._note(f"not_shown:{name}")
            return {"$repr": {"type": name, "text": ""}}
        # An address differs from run to run and says nothing.
        shown = _ADDRESS.sub("", utf8(repr(value)[: self._limits.max_repr_chars]))
        self._note(f"repr:{name}")
        self._bytes_left -= len(shown)
        return {"$repr": {"type": name, "text": shown}}

    def _converted(self, kind: type) -> None:
        if not self._untyped:
            self._untyped = _name(kind)

    def _note(self, what: str) -> None:
        self._losses.note(self._where + "".join(self._path), what)


def _name(kind: type) -> str:
    try:
        module, name = str(kind.__module__), str(kind.__qualname__)
    except Exception:  # noqa: BLE001 - a metaclass may do anything, and this is what its failure is told with
        return "?"
    return utf8(name if module == "builtins" else f"{module}.{name}")


def _is_held_in_memory(kind: type) -> bool:
    """Whether reading a mapping of the type reads no file."""
    return not any(str(base.__module__).partition(".")[0] in _ON_DISK for base in kind.__mro__)


def _is_plain(keys: list[Any]) -> bool:
    """Whether a JSON object with these keys can be taken for nothing but itself."""
    names = {key for key in keys if isinstance(key, str) and key not in {"", "$omitted"}}
    return len(names) == len(keys) and not (len(names) == 1 and names <= MARKS)


def _double(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


_SIMPLE: Final[dict[type, Callable[[Any], str | float]]] = {
    dt.datetime: dt.datetime.isoformat,
    dt.date: dt.date.isoformat,
    dt.time: dt.time.isoformat,
    dt.timedelta: dt.timedelta.total_seconds,
    decimal.Decimal: str,
    uuid.UUID: str,
    pathlib.PurePath: os.fspath,
}
"""Types whose one JSON form is text or a number. Order matters: a datetime is a date."""
