"""Arrays, tables, images and hostile objects: captured within limits, unread, unchanged."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import json
import shelve
import socket
import threading
from typing import Any
from unittest.mock import MagicMock

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loopgrid.capture import Losses, capture
from loopgrid.config import CaptureLimits

LIMITS = CaptureLimits()


def captured(value: object, **limits: Any) -> tuple[Any, list[str]]:
    losses = Losses()
    text = capture(value, "input", dataclasses.replace(LIMITS, **limits), losses)
    return json.loads(text), losses.entries(64)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.5, np.nan]), [1.5, {"$double": "NaN"}]),
        (np.array(["2026-01-02"], dtype="datetime64[D]"), ["2026-01-02"]),
        (np.float32(0.5), 0.5),
        (np.longdouble(1.5), "1.5"),
        (np.int64(7), 7),
        (np.bool_(1), True),
        (np.datetime64("2026-01-02T03:04"), "2026-01-02T03:04"),
        (pd.DataFrame({"a": [1, 2]}), {"columns": ["a"], "index": [0, 1], "data": [[1], [2]]}),
        (pd.Series([1, 2], name="n"), {"name": "n", "index": [0, 1], "data": [1, 2]}),
        (pd.Index(["x"]), ["x"]),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (pl.DataFrame({"a": [1, 2]}), {"columns": ["a"], "data": [[1], [2]]}),
        (pl.Series("n", [1, 2]), {"name": "n", "data": [1, 2]}),
    ],
)
def test_a_small_array_or_table_is_written_out(value, written):
    assert captured(value) == (written, [])


def test_a_large_array_is_its_shape_type_size_and_digest():
    array = np.arange(2000, dtype=np.int16).reshape(2, 1000)
    digest = hashlib.sha256(array.tobytes()).hexdigest()

    written, losses = captured({"a": array})

    facts = {"type": "numpy.ndarray", "shape": [2, 1000], "dtype": "int16", "bytes": 4000, "sha256": digest}
    assert written == {"a": {"$array": facts}}
    assert losses == [f"input.a:array_omitted:4000:sha256={digest}"]
    assert "sha256" not in captured(array, max_digest_bytes=10)[0]["$array"]


@pytest.mark.parametrize("library", [pd, pl])
def test_a_large_table_is_its_shape_columns_and_size(library):
    written, losses = captured(library.DataFrame({"a": range(2000), "b": [0.5] * 2000}))

    facts = written["$array"]
    assert (facts["shape"], [name for name, _ in facts["columns"]]) == ([2000, 2], ["a", "b"])
    assert facts["bytes"] >= 32_000
    assert losses[0].startswith("input:array_omitted:")
    assert captured(library.Series(range(2000)))[0]["$array"]["shape"] == [2000]


def test_equal_tables_have_equal_digests_and_a_changed_one_another():
    def digest(values: list[int]) -> str:
        return str(captured(pd.DataFrame({"a": values}))[0]["$array"]["sha256_of_row_hashes"])

    assert digest([1] * 2000) == digest([1] * 2000)
    assert digest([1] * 2000) != digest([1] * 1999 + [2])


def test_an_image_is_its_mode_size_and_digest_and_itself_when_asked():
    image = Image.new("RGB", (4, 2), "red")

    written, losses = captured(image)
    kept, nothing = captured(image, max_image_bytes=1000)

    digest = hashlib.sha256(image.tobytes()).hexdigest()
    assert written == {"$image": {"mode": "RGB", "size": [4, 2], "bytes": 24, "sha256": digest}}
    assert losses == [f"input:image_omitted:24:sha256={digest}"]
    assert kept["$image"]["png"].startswith("iVBOR")
    assert nothing == []


def test_an_image_that_was_not_read_from_its_file_yet_is_not_read_now():
    file = io.BytesIO()
    Image.new("L", (3, 3)).save(file, "PNG")
    with Image.open(io.BytesIO(file.getvalue())) as image:
        written, losses = captured(image)

        assert image.__dict__["_im"] is None

    assert written == {"$image": {"mode": "L", "size": [3, 3]}}
    assert losses == ["input:image_not_loaded"]


def test_attrs_classes_are_objects_by_field():
    @attrs.define
    class Ticket:
        number: int
        tags: list[str]

    assert captured(Ticket(7, ["a"])) == ({"number": 7, "tags": ["a"]}, [])


class Query:
    """What a database query looks like: iterating it, or showing it, runs it."""

    def __init__(self) -> None:
        self.ran = 0

    def __iter__(self) -> Any:
        self.ran += 1
        return iter(["row"])

    def __len__(self) -> int:
        self.ran += 1
        return 1

    def __repr__(self) -> str:
        return f"<Query {list(self)}>"


def test_a_lazy_query_is_named_and_not_run():
    query = Query()

    written, losses = captured({"q": query})

    assert query.ran == 0
    assert written["q"]["$repr"]["text"] == ""
    assert losses == [f"input.q:not_shown:{Query.__module__}.Query"]


def test_a_mapping_that_is_a_file_is_not_read(tmp_path):
    with shelve.open(str(tmp_path / "shelf")) as shelf:  # noqa: S301 - the test's own file
        shelf["a"] = 1
        written, losses = captured(shelf)

    assert written["$repr"]["type"] == "shelve.DbfilenameShelf"
    assert len(losses) == 1


class HostileMeta(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(name)

    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError


class Everything(metaclass=HostileMeta):
    __class__ = property(lambda self: 1 / 0)

    def __repr__(self) -> str:
        raise RuntimeError

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError


class BadDict(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        return -1  # noqa: PLE0303 - as hostile as can be


class BadStr(str):
    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError

    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307 - as hostile as can be


class Endless:
    def __getattr__(self, name: str) -> Endless:
        return Endless()


def cyclic() -> list[Any]:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    return loop


def deep() -> list[Any]:
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    return nested


def object_array() -> Any:
    array = np.empty(2, dtype=object)
    array[0] = Everything()
    return array


HOSTILE: dict[str, Any] = {
    "everything": Everything,
    "dict": lambda: BadDict(a=1),
    "str": lambda: BadStr("x"),
    "endless": Endless,
    "mock": MagicMock,
    "cycle": cyclic,
    "deep": deep,
    "module": lambda: json,
    "lock": threading.Lock,
    "generator": lambda: (number for number in range(3)),
    "range": lambda: range(10**12),
    "class": lambda: int,
    "surrogates": lambda: "\ud800" * 3,
    "moment": lambda: dt.datetime.max.replace(tzinfo=dt.UTC),
    "object array": object_array,
    "structured": lambda: np.zeros(2, dtype=[("a", "i4"), ("b", "U3")]),
    "complex": lambda: 1j,
    "huge int": lambda: 1 << 100_000,
    "memoryview": lambda: memoryview(b"abc"),
    "exception": lambda: ValueError(Everything),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_object_costs_its_own_value_and_nothing_else(name):
    value = HOSTILE[name]()

    written, _ = captured({"before": 1, "value": value, "after": 2})

    assert (written["before"], written["after"]) == (1, 2)


def test_open_files_and_sockets_are_named_and_left_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("secret")
    with path.open() as file, socket.socket() as sock:
        written, _ = captured([file, sock])
        assert file.read() == "secret"

    assert "secret" not in json.dumps(written)


def test_a_value_that_takes_too_long_is_cut_off_and_says_so():
    written, losses = captured(list(range(10_000)), max_capture_s=0.0)

    assert losses[0].endswith(":time_limit")
    assert losses[1].startswith("input:items_omitted:")
    assert written[0] == 0
    assert len(written) < 100


LOOKED_AT = sorted(HOSTILE.keys() - {"everything", "object array", "exception"})
"""Not even Hypothesis may look at the others."""


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
        | st.sampled_from(LOOKED_AT).map(lambda name: HOSTILE[name]()),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)  # fmt: skip
def test_whatever_is_captured_is_json_within_its_limits(value):
    written, losses = captured(
        value, max_content_bytes=200, max_items=50, max_depth=5, max_repr_chars=50, max_capture_s=60.0
    )

    assert len(json.dumps(written, ensure_ascii=False)) < 200 * 6 + 50 * 400
    assert all(isinstance(loss, str) for loss in losses)
