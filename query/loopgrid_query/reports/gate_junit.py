"""A gate as JUnit XML, as test reports of CI systems read it. Pure.

The rule is a test: it passes, fails, or, where nobody can say, ends in an error. Decisions are tests, too,
but never red ones, because whether they are too many is the rule's to say: what is wrong, broken, failed or
not comparable is skipped, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loopgrid_query.report_models import Gate, GateReport, GateVerdict, Item
from loopgrid_query.reports.inert import text
from loopgrid_query.reports.order import GOOD, words

_NO_XML: Final = {0xFFFE: "\N{REPLACEMENT CHARACTER}", 0xFFFF: "\N{REPLACEMENT CHARACTER}"}
"""Characters that HTML allows and XML does not, on top of those that no page shows."""


def junit(report: GateReport) -> str:
    """The report as an XML document."""
    suites = [_rule(report.gate)] if report.gate is not None else []
    suites.append(_decisions(report.items))
    tests = len(report.items) + (report.gate is not None)
    failures, errors, skipped = (sum(counts[place] for _, counts in suites) for place in range(3))
    body = "".join(suite for suite, _ in suites)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites name="{_xml(report.title)}" tests="{tests}" failures="{failures}" errors="{errors}" '
        f'skipped="{skipped}">\n{body}</testsuites>\n'
    )


def _rule(gate: Gate) -> tuple[str, tuple[int, int, int]]:
    failures, errors = int(gate.verdict is GateVerdict.FAIL), int(gate.verdict is GateVerdict.UNKNOWN)
    ended = ""
    if gate.verdict is not GateVerdict.PASS:
        tag = "failure" if failures else "error"
        ended = f'<{tag} type="{gate.verdict}" message="{_xml(gate.why)}"/>'
    said = "\n".join(f"{clause.verdict}: {clause.text}: {clause.why}" for clause in gate.clauses)
    case = (
        f'<testcase classname="loopgrid.rule" name="{_xml(gate.rule)}">{ended}'
        f"<system-out>{_xml(said)}</system-out></testcase>"
    )
    return _suite("rule", 1, (failures, errors, 0), [case])


def _decisions(items: Sequence[Item]) -> tuple[str, tuple[int, int, int]]:
    cases = []
    for item in items:
        ended = ""
        if item.outcome not in GOOD:
            ended = f'<skipped message="{_xml(f"{words(item.outcome)}: {item.why}")}"/>'
        cases.append(
            f'<testcase classname="loopgrid.decisions" name="{_xml(item.decision_id)}">{ended}</testcase>'
        )
    skipped = sum(item.outcome not in GOOD for item in items)
    return _suite("decisions", len(items), (0, 0, skipped), cases)


def _suite(
    name: str, tests: int, counts: tuple[int, int, int], cases: Sequence[str]
) -> tuple[str, tuple[int, int, int]]:
    failures, errors, skipped = counts
    head = (
        f'<testsuite name="{name}" tests="{tests}" failures="{failures}" errors="{errors}" '
        f'skipped="{skipped}">'
    )
    return "\n".join([head, *cases, "</testsuite>\n"]), counts


def _xml(written: str) -> str:
    return text(written).translate(_NO_XML)
