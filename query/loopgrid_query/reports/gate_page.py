"""An arm of replays and its gate as one self-contained HTML page with charts. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Final

from loopgrid_query.report_models import Gate, GateReport, GateVerdict, Item, ItemOutcome, Share, Statistics
from loopgrid_query.reports import charts
from loopgrid_query.reports.charts import Interval, Part
from loopgrid_query.reports.inert import document, text
from loopgrid_query.reports.order import COLOURS, by_weight, words

MAX_ROWS: Final = 2000
"""Decisions on the page; the JSON has all."""

_VERDICT_COLOURS: Final = {GateVerdict.PASS: "good", GateVerdict.FAIL: "bad", GateVerdict.UNKNOWN: "warn"}
_CONCLUSION_COLOURS: Final = {"better": "good", "worse": "bad"}


def page(report: GateReport) -> str:
    """The page of a report."""
    found = report.statistics
    body = "".join(
        (
            _head(report),
            _rule(report.gate),
            _conclusion(found),
            "<h2>What became of the decisions</h2>",
            charts.bars("Decisions by outcome", _bars(report.items)),
            _legend(report.items),
            "<h2>Shares, with their intervals</h2>",
            charts.intervals(f"Shares, with {found.method.confidence:.0%} intervals", _intervals(found)),
            _shares(found),
            _decisions(report.items),
        )
    )
    verdict = found.conclusion.verdict if report.gate is None else report.gate.verdict
    return document(f"{verdict}: {report.title}", body, charts.STYLE)


def _head(report: GateReport) -> str:
    facts = [("Equality", json.dumps(report.equality, ensure_ascii=False))]
    if report.overrides is not None:
        facts.insert(0, ("Changed", json.dumps(report.overrides, ensure_ascii=False, indent=2)))
    rows = "".join(f"<tr><th>{name}</th><td><pre>{text(value)}</pre></td></tr>" for name, value in facts)
    gate = report.gate
    said = ""
    if gate is not None:
        said = (
            f'<p>Gate: <span class="verdict {_VERDICT_COLOURS[gate.verdict]}">{gate.verdict}</span> '
            f"<code>{text(gate.rule)}</code></p>"
        )
    return (
        f"<h1>{text(report.title)}</h1>{said}"
        f'<table><colgroup><col style="width:9rem"><col></colgroup>{rows}</table>'
    )


def _rule(gate: Gate | None) -> str:
    if gate is None:
        return ""
    rows = "".join(
        f'<tr><td><code>{text(clause.text)}</code></td><td class="{_VERDICT_COLOURS[clause.verdict]}">'
        f"{clause.verdict}</td><td>{text(clause.why)}</td></tr>"
        for clause in gate.clauses
    )
    columns = '<colgroup><col style="width:16rem"><col style="width:6rem"><col></colgroup>'
    return (
        f"<h2>The rule</h2><table>{columns}<tr><th>Clause</th><th>Verdict</th><th>Why</th></tr>{rows}</table>"
    )


def _conclusion(found: Statistics) -> str:
    conclusion = found.conclusion
    colour = _CONCLUSION_COLOURS.get(conclusion.verdict, "warn")
    notes = "".join(f"<li>{text(note)}</li>" for note in found.notes)
    return (
        f'<h2>Is it better?</h2><p><span class="verdict {colour}">{words(conclusion.verdict)}</span>: '
        f"{text(conclusion.why)}</p>" + (f"<ul>{notes}</ul>" if notes else "")
    )


def _bars(items: Sequence[Item]) -> list[tuple[str, list[Part]]]:
    groups = {
        "were wrong": [item for item in items if item.truth and item.before is False],
        "were right": [item for item in items if item.truth and item.before is True],
        "nobody can say": [item for item in items if item.truth and item.before is None],
        "without a correction": [item for item in items if not item.truth],
    }
    rows = []
    for label, among in groups.items():
        counts = Counter(item.outcome for item in among)
        parts = [Part(counts[outcome], words(outcome), COLOURS[outcome]) for outcome in ItemOutcome]
        rows.append((f"{label} ({len(among)})", parts))
    return rows


def _legend(items: Sequence[Item]) -> str:
    counts = Counter(item.outcome for item in items)
    said = [
        f'<span class="{COLOURS[outcome]}">{counts[outcome]} {words(outcome)}</span>'
        for outcome in ItemOutcome
        if counts[outcome]
    ]
    return f"<p>{' · '.join(said)}</p>"


def _intervals(found: Statistics) -> list[Interval]:
    rows = [
        Interval(label, share.share, share.low, share.high)
        for label, share in _told(found)
        if share.share is not None
    ]
    gain = found.paired.gain
    if gain is not None:
        rows.append(Interval(_gain_label(found), gain.gain, gain.low, gain.high))
    return rows


def _told(found: Statistics) -> list[tuple[str, Share]]:
    outcomes = found.outcomes
    told = [
        ("fixed, of the wrong", outcomes.fixed),
        ("still wrong, of the wrong", outcomes.still_wrong),
        ("newly broken, of the right", outcomes.newly_broken),
        ("failed, of all", outcomes.failed),
        ("not comparable, of all", outcomes.not_comparable),
    ]
    if found.noise is not None:
        told += [("noise: other output", found.noise.differing), ("noise: flipped", found.noise.flipped)]
    return told


def _gain_label(found: Statistics) -> str:
    return f"gain over the {'decisions' if found.paired.baseline == 'decision' else 'control arm'}"


def _shares(found: Statistics) -> str:
    rows = []
    for label, share in _told(found):
        possible = f" (up to {share.possible})" if share.possible > share.count else ""
        rows.append(_row(label, f"{share.count}{possible} of {share.of}", share.share, share.low, share.high))
    gain = found.paired.gain
    if gain is not None:
        paired = found.paired
        said = f"{paired.gained} gained, {paired.lost} lost of {paired.pairs}"
        rows.append(_row(_gain_label(found), said, gain.gain, gain.low, gain.high))
    level = f"{found.method.confidence:.0%} interval"
    head = f"<tr><th></th><th>Count</th><th>Share</th><th>{level}</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _row(label: str, count: str, share: float | None, low: float | None, high: float | None) -> str:
    shown = "" if share is None else f"{share:.1%}"
    interval = "" if low is None or high is None else f"{low:.1%} to {high:.1%}"
    return (
        f"<tr><td>{text(label)}</td><td>{text(count)}</td>"
        f'<td class="number">{shown}</td><td class="number">{interval}</td></tr>'
    )


def _decisions(items: Sequence[Item]) -> str:
    rows = "".join(
        f"<tr><td><code>{text(item.decision_id)}</code></td>"
        f'<td class="{COLOURS[item.outcome]}">{words(item.outcome)}</td><td>{text(item.why)}</td></tr>'
        for item in by_weight(items)[:MAX_ROWS]
    )
    more = len(items) - MAX_ROWS
    rest = f'<p class="dim">{more} more decisions are in the JSON.</p>' if more > 0 else ""
    columns = '<colgroup><col style="width:27rem"><col style="width:8rem"><col></colgroup>'
    head = "<tr><th>Decision</th><th>ItemOutcome</th><th>Why</th></tr>"
    return f"<h2>Decisions</h2><table>{columns}{head}{rows}</table>{rest}"
