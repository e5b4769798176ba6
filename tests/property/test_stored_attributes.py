"""What is stored of a span's attributes can be read again as what came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loopgrid_collector.otlp.stored import attributes_of_json
from tests.support.samples import attributes_of

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
keys = texts | st.sampled_from(("$bytes", "$map", "$double", "gen_ai.request.model"))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(keys, values, max_size=5), min_size=1, max_size=3))
def test_stored_attributes_read_back_are_those_that_came(rows):
    came = attributes_of(rows)

    again = attributes_of_json(came.objects().to_pylist())

    assert again.objects().to_pylist() == came.objects().to_pylist()
    assert again.type.tolist() == came.type.tolist()
    assert again.row.tolist() == came.row.tolist()


def test_a_repeated_key_is_read_back_as_often_as_it_came():
    text = '{"$map":[["a",1],["a",2.0],["$b",{"$bytes":"AA=="}]]}'

    assert attributes_of_json([text]).objects().to_pylist() == [text]
