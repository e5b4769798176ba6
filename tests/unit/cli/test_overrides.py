"""The words after --override."""

from __future__ import annotations

from typing import Any

import pytest

from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.overrides import parse_overrides


def test_dots_nest():
    assert parse_overrides(["prompt.name=support", "prompt.version=2"]) == {
        "prompt": {"name": "support", "version": "2"}
    }


@pytest.mark.parametrize(
    "path", ["prompt.version", "prompt.name", "prompt.template", "prompt.variables.x", "model.name"]
)
def test_fields_that_are_text_stay_text_even_where_they_look_like_numbers(path):
    value: Any = parse_overrides([f"{path}=2"])
    for name in path.split("."):
        value = value[name]
    assert value == "2"


def test_other_values_are_json_where_they_read_as_json():
    words = ["model.parameters.temperature=0.5", "input.urgent=true", "input.message=I paid = twice"]
    assert parse_overrides(words) == {
        "model": {"parameters": {"temperature": 0.5}},
        "input": {"urgent": True, "message": "I paid = twice"},
    }


def test_no_override_is_an_empty_object():
    assert parse_overrides([]) == {}


@pytest.mark.parametrize("word", ["prompt.version", "=2", "prompt.=2", ".version=2"])
def test_a_word_that_is_no_override_is_refused_with_an_example(word):
    with pytest.raises(CliError, match=r"as in --override prompt\.version=2"):
        parse_overrides([word])


def test_the_same_field_twice_is_refused():
    with pytest.raises(CliError, match="a second time"):
        parse_overrides(["prompt.version=2", "prompt.version=3"])


def test_a_field_below_one_that_was_given_whole_is_refused():
    with pytest.raises(CliError, match="given whole before"):
        parse_overrides(["prompt=2", "prompt.version=3"])
