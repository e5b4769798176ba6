"""Recorded values as text."""

from __future__ import annotations

import pytest

from loopgrid_query.cli.gist import compact, gist, leaves, plain, whole

USER = {"role": "user", "parts": [{"type": "text", "content": "I was\ncharged twice"}]}
SYSTEM = {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]}
CALL = {
    "role": "assistant",
    "parts": [{"type": "tool_call", "name": "lookup", "arguments": {"order": "A-1"}}],
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("two\nlines", "two lines"),
        ({"message": "only one"}, "only one"),
        ({"action": "x", "n": 1, "none": None}, "x · 1"),
        ({"action": {"to": "x"}}, '{"action": {"to": "x"}}'),
        ([SYSTEM, USER], "I was charged twice"),
        ([CALL], 'lookup({"order": "A-1"})'),
        ([{"role": "user", "parts": [{"type": "image"}]}], "[image]"),
        ([{"role": "user"}], ""),
        ([], "[]"),
        (0, "0"),
    ],
)
def test_the_gist_is_one_line(value, text):
    assert gist(value) == text


def test_the_compact_form_leaves_nothing_out():
    assert compact({"action": "x", "none": None}) == '{"action": "x", "none": null}'


def test_recorded_content_cannot_steer_the_terminal():
    hostile = "\x1b[2Jgone\x9b31m\x00\x07"
    for text in (plain(hostile), gist(hostile), gist({"a": 1, "b": hostile}), whole([hostile])):
        assert not {"\x1b", "\x9b", "\x00", "\x07"} & set(text)


def test_the_whole_keeps_lines_and_letters():
    assert whole("Grüße\r\n\tJosé") == "Grüße\n\tJosé"
    assert whole({"name": "José"}) == '{\n  "name": "José"\n}'


def test_leaves_name_the_members_of_an_object_by_path():
    assert leaves({"a": {"b": 1}, "c": [2], "d": {}}, "output") == {
        "output.a.b": 1,
        "output.c": [2],
        "output.d": {},
    }
    assert leaves("text", "output") == {"output": "text"}
