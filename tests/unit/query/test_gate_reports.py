"""The reports of a gate say the same, and whatever was recorded is something to look at and nothing else."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_query import schemas
from loopgrid_query.replay.gate import evaluate, parse
from loopgrid_query.replay.statistics import statistics
from loopgrid_query.report_models import GateReport, Item, ItemOutcome, Method
from loopgrid_query.reports.charts import Interval, Part, bars, intervals
from loopgrid_query.reports.gate_junit import junit
from loopgrid_query.reports.gate_markdown import MAX_DECISIONS, MAX_SPAN_CHARS, markdown, span
from loopgrid_query.reports.gate_page import MAX_ROWS, page

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg/onload=alert(1)>]]>"
    "| `x` ``y`` @you #1 **b** </details>\r\n\x00\x1b[31m\u202egnp.exe\ud800\ufffe"
)
QUICK = Method(resamples=199)
VOID = {"meta", "col"}


def items(
    count: int,
    outcome: ItemOutcome,
    *,
    before: bool | None = None,
    after: bool | None = None,
    why: str = HOSTILE,
):
    return [
        Item(
            decision_id=f"{outcome}-{number:05}",
            outcome=outcome,
            why=why,
            truth=before is not None,
            before=before,
            after=after,
        )
        for number in range(count)
    ]


def report_of(arm: list[Item], rule: str | None, control: list[Item] | None = None, title: str = HOSTILE):
    found = statistics(arm, control, QUICK)
    return GateReport(
        title=title,
        overrides={"prompt": {"template": HOSTILE}},
        equality={"text": "exact"},
        gate=None if rule is None else evaluate(parse(rule), found),
        statistics=found,
        items=arm,
        control=control,
    )


ARM = [
    *items(6, ItemOutcome.FIXED, before=False, after=True),
    *items(1, ItemOutcome.STILL_WRONG, before=False, after=False),
    *items(1, ItemOutcome.NEWLY_BROKEN, before=True, after=False),
    *items(9, ItemOutcome.UNCHANGED, before=True, after=True),
    *items(2, ItemOutcome.FAILED, before=False),
    *items(1, ItemOutcome.NOT_COMPARABLE),
    *items(1, ItemOutcome.CHANGED),
]
CONTROL = [
    *items(3, ItemOutcome.FIXED, before=False, after=True),
    *items(1, ItemOutcome.FAILED, before=False),
]
REPORTS = {
    "fail": report_of(ARM, "fixed >= 0.5 and newly_broken == 0", CONTROL),
    "pass": report_of(ARM, "fixed >= 0.5"),
    "unknown": report_of(ARM, "fixed >= 0.7"),
    "no rule": report_of(ARM, None),
    "nothing": report_of([], "items > 0"),
}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements[tag] += 1
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "every element ends where it should"

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", REPORTS)
def test_the_json_of_a_report_keeps_its_schema_and_is_read_back_the_same(name):
    written = REPORTS[name].model_dump(mode="json")
    jsonschema.validate(json.loads(json.dumps(written)), dict(schemas.documents()["gate_report"]))

    assert GateReport.model_validate(written) == REPORTS[name]


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_well_formed_inert_and_needs_nothing_from_elsewhere(name):
    shown = Page(page(REPORTS[name]))
    names = {attribute for attribute, _ in shown.attributes}

    assert shown.open == []
    assert not {"script", "img", "link", "iframe", "object", "base", "form", "a", "use", "image"} & set(
        shown.elements
    )
    assert not {attribute for attribute in names if attribute.startswith("on")}
    assert not {"src", "href", "xlink:href", "srcset"} & names
    assert any(
        "default-src 'none'" in str(value) for attribute, value in shown.attributes if attribute == "content"
    )


def test_a_page_shows_verdict_clauses_conclusion_charts_and_every_decision():
    shown = Page(page(REPORTS["fail"]))

    for said in ("Gate: fail", "newly_broken == 0", "it is 1 of 10 that were right", "not enough data"):
        assert said in shown.text
    assert shown.elements["svg"] == 2
    assert all(item.decision_id in shown.text for item in ARM)
    assert shown.text.index("newly_broken-00000") < shown.text.index("fixed-00000")
    assert "<script>alert(1)</script>" in shown.text
    assert "\u202e" not in shown.text


def test_a_page_of_too_many_decisions_says_how_many_are_left_out():
    shown = page(report_of(items(MAX_ROWS + 5, ItemOutcome.UNCHANGED, before=True, after=True, why=""), None))

    assert "5 more decisions are in the JSON" in shown
    assert len(shown) < 1_000_000


@pytest.mark.parametrize(
    ("name", "failures", "errors"), [("pass", 0, 0), ("fail", 1, 0), ("unknown", 0, 1), ("no rule", 0, 0)]
)
def test_in_junit_the_rule_alone_is_red_and_what_is_not_right_is_skipped_with_its_reason(
    name, failures, errors
):
    suites = ET.fromstring(junit(REPORTS[name]).encode())  # noqa: S314 - our own output
    cases = list(suites.iter("testcase"))
    skipped = [case for case in cases if case.find("skipped") is not None]

    assert {key: suites.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": str(len(ARM) + (name != "no rule")),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": "5",
    }
    assert len(cases) == int(suites.get("tests") or 0)
    assert len(list(suites.iter("failure"))) == failures
    assert len(list(suites.iter("error"))) == errors
    assert {str(case.get("name")).rpartition("-")[0] for case in skipped} == {
        "still_wrong",
        "newly_broken",
        "failed",
        "not_comparable",
    }
    for suite in suites.iter("testsuite"):
        assert int(suite.get("tests") or 0) == len(suite.findall("testcase"))


@given(st.text(), st.text())
def test_any_text_makes_xml_that_reads_and_a_page_that_closes(title, why):
    report = report_of(items(1, ItemOutcome.FAILED, before=False, why=why), "failed == 0", title=title)

    ET.fromstring(junit(report).encode())  # noqa: S314 - our own output
    assert Page(page(report)).open == []


def test_markdown_says_verdict_clauses_numbers_and_what_to_look_at():
    said = markdown(REPORTS["fail"])

    assert said.startswith("### LoopGrid gate: fail\n")
    assert "* **fail** `newly_broken == 0`: it is 1 of 10 that were right" in said
    assert "| fixed, of those that were wrong | 6 (up to 8) of 9 | 66.7% |" in said
    assert "| control arm: another output |" in said
    assert "gain over the control arm" in said
    assert said.count("\n* `") == 5
    assert markdown(REPORTS["no rule"]).startswith("### LoopGrid: not enough data\n")


def test_in_markdown_what_was_recorded_stands_in_code_spans_on_its_line():
    said = markdown(REPORTS["fail"])
    outside = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", said)

    assert "@you" not in outside
    assert "<script" not in outside
    assert outside.count("</details>") == 1
    assert "\x1b" not in said


@given(st.text())
def test_a_code_span_is_one_line_and_ends_where_it_should(text):
    found = span(text)

    assert "\n" not in found
    if found != "(empty)":
        fence = re.match("`+", found)
        assert fence is not None
        inner = found[len(fence[0]) : -len(fence[0])]
        assert fence[0] not in re.findall("`+", inner)


def test_markdown_fits_a_comment_however_many_decisions_there_are():
    said = markdown(
        report_of(items(5000, ItemOutcome.STILL_WRONG, before=False, after=False, why="x" * 9999), "better")
    )

    assert len(said) < 60_000
    assert f"{5000 - MAX_DECISIONS} more are in the JSON" in said
    assert "x" * (MAX_SPAN_CHARS + 1) not in said


def test_charts_are_as_long_as_what_they_stand_for():
    drawn = bars(
        "t", [("a", [Part(30, "x", "good"), Part(10, "y", "bad")]), ("none", [Part(0, "x", "good")])]
    )
    lengths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn)]

    assert lengths[0] == pytest.approx(3 * lengths[1], abs=0.1)
    assert "none" not in drawn
    assert bars("t", []) == intervals("t", []) == ""


def test_an_interval_lies_where_its_numbers_say_and_below_zero_there_is_room():
    drawn = intervals("t", [Interval("a", 0.5, 0.25, 1.0), Interval("b", -0.5, None, None)])
    ends = re.search(r'class="line" x1="([\d.]+)" x2="([\d.]+)"', drawn)
    circles = [float(at) for at in re.findall(r'cx="([\d.]+)"', drawn)]

    assert ends is not None
    low, high = float(ends[1]), float(ends[2])
    assert (circles[0] - low) / (high - low) == pytest.approx(1 / 3, abs=0.01)
    assert circles[1] < low
    assert "-100%" in drawn
    assert "-100%" not in intervals("t", [Interval("a", 0.5, 0.25, 1.0)])
