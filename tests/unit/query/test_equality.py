"""When outputs count as equal: the grammar of the rule, and what it says."""

from __future__ import annotations

import pytest

from loopgrid_query.compare import equality
from loopgrid_query.errors import Invalid


@pytest.mark.parametrize(
    ("rule", "one", "other", "expected"),
    [
        (None, "a", "a ", False),
        ("exact", {"a": 1}, {"a": 1.0}, True),
        ("normalised", " Two\n words ", "Two words", True),
        ("normalised", "e\u0301", "\u00e9", True),
        ("normalised", "Two", "two", False),
        ("normalised", {"a": ["x  y"]}, {"a": ["x y"]}, True),
        ({"ignore_case": True}, "STRASSE", "straße", True),
        ({"ignore_case": True}, "Two ", "two", False),
        ({"text": "normalised", "ignore_case": True}, "Two ", "two", True),
        ({"fields": ["/a"]}, {"a": 1, "b": 2}, {"a": 1, "b": 3}, True),
        ({"fields": ["/a", "/b"]}, {"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"fields": ["/a"]}, {"a": None}, {}, False),
        ({"fields": ["/0/x~1y"]}, [{"x/y": 1}], [{"x/y": 1}, 2], True),
        ({"fields": [""]}, 1, 2, False),
        ({"absolute": 0.01}, 10.02, 10.03, True),
        ({"absolute": 0.01}, 10.02, 10.0301, False),
        ({"absolute": 1}, 10**400, 10**400 + 1, True),
        ({"absolute": 1}, True, 1, False),
        ({"absolute": 1}, 1, "1", False),
        ({"relative": 0.1}, 100, 90, True),
        ({"relative": 0.1}, 100, 89, False),
        ({"relative": 1}, float("inf"), 1, False),
        ({"fields": ["/n"], "absolute": 0.5}, {"n": 1, "x": 1}, {"n": 1.5, "x": 2}, True),
        ('{"fields": ["/a"]}', {"a": 1, "b": 2}, {"a": 1}, True),
    ],
)
def test_a_rule_says_what_counts(rule, one, other, expected):
    found = equality.parse(rule)

    assert found.equal(one, other) is expected
    assert found.equal(other, one) is expected
    assert equality.parse(found.written()) == found


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("normalized", "normalised"),
        ({"field": ["/a"]}, "fields"),
        ({"fields": "/a"}, "list of JSON pointers"),
        ({"fields": ["a"]}, "write /a"),
        ({"fields": ["/a"] * 101}, "at most 100"),
        ({"fields": ["/" + "a" * 1000]}, "at most 1000 characters"),
        ({"text": "fuzzy"}, '"exact" or "normalised"'),
        ({"text": None}, '"exact" or "normalised"'),
        ({"ignore_case": 1}, "true or false"),
        ({"absolute": -1}, "0 or more"),
        ({"absolute": float("nan")}, "finite"),
        ({"relative": True}, "finite number"),
        ({"relative": 10**400}, "or less"),
        ('{"fields": [', "no JSON object"),
        ("{" + " " * 20_000 + "}", "at most 20000 characters"),
        (3, "JSON object"),
        (["exact"], "JSON object"),
    ],
)
def test_a_rule_that_is_none_is_refused_with_what_would_be_right(rule, said):
    with pytest.raises(Invalid) as refused:
        equality.parse(rule)

    assert said in str(refused.value) or said == refused.value.errors[0].suggestion
    assert refused.value.errors[0].field.startswith("equality")
