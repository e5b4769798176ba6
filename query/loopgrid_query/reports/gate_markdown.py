"""A gate as Markdown, for a comment on a pull request. Pure.

Everything that somebody else wrote stands in code spans, where it is neither markup nor a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from loopgrid_query.report_models import GateReport, Item, Share, Statistics
from loopgrid_query.reports.inert import shown
from loopgrid_query.reports.order import GOOD, by_weight, words

MAX_DECISIONS: Final = 30
"""Decisions that are listed; the JSON has all."""
MAX_SPAN_CHARS: Final = 300
"""Characters of one piece of text."""


def markdown(report: GateReport) -> str:
    """The report as Markdown; at most 60,000 characters, so that a comment holds it."""
    return "\n".join([*_head(report), "", *_numbers(report.statistics), *_decisions(report.items), ""])


def span(written: str) -> str:
    """Text as a code span on one line, whatever is in it."""
    flat = re.sub(r"\s+", " ", shown(written)).strip()
    cut = flat if len(flat) <= MAX_SPAN_CHARS else flat[:MAX_SPAN_CHARS] + "…"
    if not cut:
        return "(empty)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", cut)), default=0))
    room = " " if cut.startswith("`") or cut.endswith("`") else ""
    return f"{fence}{room}{cut}{room}{fence}"


def _head(report: GateReport) -> Iterator[str]:
    gate, conclusion = report.gate, report.statistics.conclusion
    if gate is None:
        yield f"### LoopGrid: {words(conclusion.verdict)}"
    else:
        yield f"### LoopGrid gate: {gate.verdict}"
    yield ""
    yield span(report.title)
    if gate is not None:
        yield ""
        yield from (f"* **{clause.verdict}** {span(clause.text)}: {clause.why}" for clause in gate.clauses)
    yield ""
    yield f"**{words(conclusion.verdict).capitalize()}.** {conclusion.why}"


def _numbers(found: Statistics) -> Iterator[str]:
    outcomes = found.outcomes
    level = f"{found.method.confidence:.0%}"
    yield f"| | count | share | {level} interval |"
    yield "|---|---:|---:|---|"
    yield _row("fixed, of those that were wrong", outcomes.fixed)
    yield _row("still wrong", outcomes.still_wrong)
    yield _row("newly broken, of those that were right", outcomes.newly_broken)
    for label, share in (
        ("changed, without a correction", outcomes.changed),
        ("failed", outcomes.failed),
        ("not comparable", outcomes.not_comparable),
    ):
        if share.count:
            yield _row(label, share)
    if found.noise is not None:
        yield _row("control arm: another output", found.noise.differing)
        yield _row("control arm: right and wrong changed places", found.noise.flipped)
    gain = found.paired.gain
    if gain is not None:
        against = "decisions" if found.paired.baseline == "decision" else "control arm"
        interval = "" if gain.low is None or gain.high is None else f"{gain.low:.1%} to {gain.high:.1%}"
        yield f"| gain over the {against} | {found.paired.pairs} pairs | {gain.gain:.1%} | {interval} |"
    if found.notes:
        yield ""
        yield from (f"> {note}" for note in found.notes)


def _row(label: str, share: Share) -> str:
    possible = f" (up to {share.possible})" if share.possible > share.count else ""
    number = "" if share.share is None else f"{share.share:.1%}"
    interval = "" if share.low is None or share.high is None else f"{share.low:.1%} to {share.high:.1%}"
    return f"| {label} | {share.count}{possible} of {share.of} | {number} | {interval} |"


def _decisions(items: list[Item]) -> Iterator[str]:
    listed = [item for item in by_weight(items) if item.outcome not in GOOD]
    if not listed:
        return
    yield ""
    yield "<details><summary>Decisions to look at</summary>"
    yield ""
    for item in listed[:MAX_DECISIONS]:
        yield f"* {span(item.decision_id)} **{words(item.outcome)}** {span(item.why)}"
    if len(listed) > MAX_DECISIONS:
        yield f"* {len(listed) - MAX_DECISIONS} more are in the JSON."
    yield ""
    yield "</details>"
