"""A comparison as a page, and as a notebook shows it: complete, self-contained, and inert."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest

from loopgrid.results import Comparison
from loopgrid_query import compare
from loopgrid_query.reports.comparison import MAX_SHOWN_CHARS, page

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg/onload=alert(1)>"
    "</style></pre></title><!--]]><base href=//evil.example>&lt;b&gt;\x00\x1b[31m\u202egnp.exe\ud800"
)
VOID = {"meta", "col"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "every element ends where it should"

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.comments.append(data)


def record(output: Any, **fields: Any) -> dict[str, Any]:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    return {
        "decision_id": "d",
        "decision_type": "reply",
        "service_name": None,
        "started_at": "2026-01-01T00:00:00Z",
        "input": None,
        "output": output,
        "prompt": {"name": None, "version": None, "template": None, "variables": None},
        "model": {"name": "m", "provider": None, "response_name": None, "parameters": None},
        "usage": dict.fromkeys(names),
        "duration_ms": 5.0,
        "cost_usd": None,
    } | fields


def comparison(left: dict[str, Any], right: dict[str, Any], truth: Any, said: str = "why") -> dict[str, Any]:
    outputs = {"decision": left["output"], "replay": right["output"], "correction": truth}
    return {
        "verdict": "still_wrong",
        "why": said,
        "equality": {"text": "exact"},
        "agreement": {"outputs": False, "left": False, "right": False},
        "decision": left,
        "replay": {"replay_id": "rpl_1", "status": "completed"},
        "result": right,
        "ground_truth": {"output": truth, "corrected_by": said, "recorded_at": "2026-01-01T00:00:00Z"},
        "overrides": {},
        "differences": compare.differences(outputs),
        "changes": compare.changes(left, right, {}),
        **compare.parts(left, right, truth),
    }


@pytest.fixture
def hostile() -> dict[str, Any]:
    def side(text: str) -> dict[str, Any]:
        part = {"type": "tool_call", "name": text, "arguments": {text: text}}
        return record(
            {text: text, "calls": [{"role": text, "parts": [part]}]},
            decision_type=text,
            service_name=text,
            input=[{"role": "user", "content": text}],
            prompt={"name": text, "version": text, "template": text, "variables": {text: text}},
            model={"name": text, "provider": text, "response_name": text, "parameters": {text: text}},
        )

    return comparison(side(HOSTILE), side(HOSTILE + "\n" + HOSTILE), [HOSTILE], HOSTILE) | {
        "notes": [HOSTILE]
    }


def test_the_page_of_hostile_content_has_no_element_that_the_harmless_one_has_not(hostile):
    found = Page(page(hostile))

    assert set(found.elements) <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "span", "ul", "li"),
        *("table", "colgroup", "col", "tr", "th", "td", "pre", "code", "ins", "del"),
    }
    assert found.elements["style"] == found.elements["title"] == 1
    assert {name for _, name, _ in found.attributes} <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "style",
        "class",
    }
    assert found.open == []
    assert found.comments == []
    assert "<script>alert(1)</script>" in found.text, "it is shown as the text it is"


def test_the_page_asks_for_nothing_from_elsewhere_and_may_not(hostile):
    shown = page(hostile)
    found = Page(shown)
    style = re.findall(r"<style>(.*?)</style>", shown, re.DOTALL)[0]

    assert not re.search(r"url\(|@import|https?:", style)
    assert not {name for _, name, _ in found.attributes} & {
        "src",
        "href",
        "srcset",
        "action",
        "data",
        "poster",
    }
    policy = next(value for tag, name, value in found.attributes if tag == "meta" and name == "content")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy


def test_characters_that_steer_how_text_is_shown_are_shown_instead(hostile):
    shown = page(hostile)

    assert not set(shown) & {"\x00", "\x1b", "\u202e", "\ud800"}
    assert "[U+202E]gnp.exe" in shown
    shown.encode("utf-8")


def test_a_notebook_shows_hostile_content_as_text(hostile):
    shown = Comparison(hostile)._repr_html_()
    found = Page(shown)

    assert set(found.elements) <= {"div", "p", "b", "table", "tr", "th", "td"}
    assert {name for _, name, _ in found.attributes} == {"style"}
    assert "still_wrong" in found.text
    shown.encode("utf-8")


def test_the_page_tells_every_part():
    left = record(
        "The account\nis fine.", prompt={"name": "p", "version": "1", "template": "a", "variables": None}
    )
    right = record(
        "The account\nis closed.", prompt={"name": "p", "version": "2", "template": "b", "variables": None}
    )
    shown = Page(page(comparison(left, right, "Refund."))).text

    for said in (
        "still_wrong",
        "Outputs",
        "Where the outputs differ",
        "Prompt template",
        "duration_ms",
        "+b",
        "-a",
        "Refund.",
    ):
        assert said in shown


def test_two_decisions_and_a_replay_that_ran_nothing_have_a_page_too():
    whole = comparison(record("a"), record("b"), "c")
    two = whole | {"replay": None, "overrides": None}
    empty = dict.fromkeys(("output_diff", "prompt_diff", "message_diff", "tool_call_diff", "measures"))
    nothing = whole | {"result": None, "ground_truth": None, "verdict": "not_comparable", **empty}

    assert "Other decision" in Page(page(two)).text
    assert "not_comparable" in Page(page(nothing)).text
    assert "not_comparable" in Comparison(nothing)._repr_html_()


def test_a_huge_value_is_cut_on_the_page_and_the_page_says_so():
    shown = page(comparison(record("x" * (MAX_SHOWN_CHARS + 7)), record("b"), "c"))

    assert "7 more characters" in shown
