"""The tree hash is RFC 6962's, and the canonical form has no two readings."""

from __future__ import annotations

import hashlib
import uuid
from itertools import product
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_collector.ledger import merkle
from loopgrid_collector.ledger.digest import ENTRIES, Form, digest, frame
from loopgrid_collector.ledger.framing import column_digests
from loopgrid_collector.ledger.records import uuids

# Published test vectors of certificate-transparency-go (RFC 6962): inputs, and the root over the first n.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_roots_match_the_published_vectors() -> None:
    assert ROOTS == [merkle.root(LEAVES[:size]).hex() for size in range(1, 9)]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert hashlib.sha256(b"").digest() == merkle.root([])


values = st.one_of(st.none(), st.integers(-(2**63), 2**64), st.text(), st.binary())


@given(st.lists(values, max_size=4), st.lists(values, max_size=4))
def test_two_sequences_of_values_never_share_a_framing(left: list[object], right: list[object]) -> None:
    same = [(type(a), a) for a in left] == [(type(b), b) for b in right]

    assert same == (b"".join(map(frame, left)) == b"".join(map(frame, right)))  # type: ignore[arg-type]


def test_every_column_and_the_salt_enter_the_digest() -> None:
    row = {
        "entry_id": "mrk_1", "entry_type": "mark", "trace_id": uuid.UUID(int=1), "span_id": 2,
        "subject_id": None, "actor": "ann", "body": "{}",
    }  # fmt: skip
    changed = [{**row, name: "other"} for name in row]

    found = {digest(ENTRIES, each, salt) for each, salt in product([row, *changed], (b"a" * 16, b"b" * 16))}

    assert 2 * (1 + len(row)) == len(found)


cell = st.none() | st.text(st.characters(codec="utf-8")) | st.text(max_size=0)
number = st.none() | st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(cell, cell, number, st.none() | st.binary(min_size=16, max_size=16)), max_size=5))
def test_column_wise_and_row_wise_digests_agree(rows: list[tuple[Any, ...]]) -> None:
    form = Form("any", b"any\n", facts=("number", "id"), content=("text", "more"))
    table = pa.table(
        {
            "text": pa.array([row[0] for row in rows], pa.string()),
            "more": pa.array([row[1] for row in rows], pa.string()),
            "number": pa.array([row[2] for row in rows], pa.uint64()),
            "id": uuids([row[3] for row in rows]),
        }
    )
    salts = [bytes([position]) * 16 for position in range(len(rows))]

    by_row = [
        digest(form, {"text": row[0], "more": row[1], "number": row[2], "id": row[3]}, salt)
        for row, salt in zip(rows, salts, strict=True)
    ]

    assert by_row == column_digests(form, table, pa.array(salts, pa.binary())).to_pylist()
