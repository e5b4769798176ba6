"""A comparison as one self-contained HTML page. Pure.

Everything recorded is escaped, control and bidirectional characters are shown and not obeyed, and the page
forbids itself scripts and everything from elsewhere, so that what is recorded stays something to look at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from loopgrid_query.reports.inert import CONTENT_SECURITY_POLICY, MAX_SHOWN_CHARS, document
from loopgrid_query.reports.inert import text as _text

__all__ = ["CONTENT_SECURITY_POLICY", "MAX_SHOWN_CHARS", "page"]

_GOOD: Final = frozenset({"fixed"})
_BAD: Final = frozenset({"still_wrong", "newly_broken"})
_TITLES: Final = {"decision": "Decision", "replay": "Replay", "correction": "Correction"}


def page(comparison: Mapping[str, Any]) -> str:
    """The page of a comparison.

    Args:
        comparison: the JSON object of the API.
    """
    body = "".join(
        (
            _head(comparison),
            _outputs(comparison),
            _differences(comparison["differences"]),
            _changes(comparison),
            _prompt(comparison.get("prompt_diff")),
            _aligned("Messages", comparison.get("message_diff"), _message),
            _aligned("Tool calls", comparison.get("tool_call_diff"), _call),
            _measures(comparison.get("measures")),
            _text_section("Output as text, left to right", (comparison.get("output_diff") or {}).get("text")),
            _notes(comparison.get("notes") or ()),
        )
    )
    return document(f"{comparison['verdict']}: {comparison['decision']['decision_id']}", body)


def _value(value: Any) -> str:
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return f"<pre>{_text(written)}</pre>"


def _style(verdict: str) -> str:
    return "good" if verdict in _GOOD else "bad" if verdict in _BAD else "warn"


def _head(comparison: Mapping[str, Any]) -> str:
    decision, result = comparison["decision"], comparison["result"]
    verdict = comparison["verdict"]
    facts = [("Decision", decision["decision_id"])]
    if comparison["replay"] is not None:
        facts.append(("Replay", f"{comparison['replay']['replay_id']} ({comparison['replay']['status']})"))
    if result is not None:
        facts.append(("Result" if comparison["replay"] is not None else "Other", result["decision_id"]))
    facts += [
        (title, decision[name])
        for title, name in (("Type", "decision_type"), ("Service", "service_name"), ("Started", "started_at"))
        if decision[name] is not None
    ]
    truth = comparison["ground_truth"]
    if truth is not None:
        facts.append(("Corrected by", f"{truth['corrected_by']}, {truth['recorded_at']}"))
    facts.append(("Equality", json.dumps(comparison["equality"], ensure_ascii=False)))
    rows = "".join(
        f"<tr><th>{_text(title)}</th><td><code>{_text(value)}</code></td></tr>" for title, value in facts
    )
    return (
        f'<h1>Verdict: <span class="verdict {_style(verdict)}">{_text(verdict)}</span></h1>'
        f"<p>{_text(comparison['why'])}</p>"
        f'<table><colgroup><col style="width:9rem"><col></colgroup>{rows}</table>'
    )


def _titles(comparison: Mapping[str, Any]) -> dict[str, str]:
    return _TITLES if comparison["replay"] is not None else {**_TITLES, "replay": "Other decision"}


def _outputs(comparison: Mapping[str, Any]) -> str:
    sides = {
        "decision": comparison["decision"],
        "replay": comparison["result"],
        "correction": comparison["ground_truth"],
    }
    titles = _titles(comparison)
    shown = [(titles[side], found["output"]) for side, found in sides.items() if found is not None]
    head = "".join(f"<th>{title}</th>" for title, _ in shown)
    cells = "".join(f"<td>{_value(output)}</td>" for _, output in shown)
    return f"<h2>Outputs</h2><table><tr>{head}</tr><tr>{cells}</tr></table>"


def _differences(differences: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for place in differences:
        cells = [
            '<td class="dim">nothing here</td>'
            if side in place["absent"]
            else f"<td>{_value(place[side])}</td>"
            for side in _TITLES
        ]
        if place["text"] is not None:
            cells[1] = f"<td>{_words(place['text'])}</td>"
        if place["text_to_correction"] is not None:
            cells[2] = f"<td>{_words(place['text_to_correction'])}</td>"
        rows.append(f"<tr><td><code>{_text(place['path'])}</code></td>{''.join(cells)}</tr>")
    if not rows:
        return ""
    head = "<tr><th>Place</th><th>Decision</th><th>Replay or other</th><th>Correction</th></tr>"
    return f"<h2>Where the outputs differ</h2><table>{head}{''.join(rows)}</table>"


def _words(pieces: Iterable[Mapping[str, str]]) -> str:
    tags = {"insert": ("<ins>", "</ins>"), "delete": ("<del>", "</del>")}
    marked = []
    for piece in pieces:
        opened, closed = tags.get(piece["op"], ("", ""))
        marked.append(f"{opened}{_text(piece['text'])}{closed}")
    return f"<pre>{''.join(marked)}</pre>"


def _changes(comparison: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{_text(change['path'])}</code></td><td>{_value(change['decision'])}</td>"
        f"<td>{_value(change['replay'])}</td><td>{'yes' if change['overridden'] else 'no'}</td></tr>"
        for change in comparison["changes"]
    )
    if not rows:
        return ""
    head = "<tr><th>Place</th><th>Before</th><th>After</th><th>Overridden</th></tr>"
    return f"<h2>Input, prompt and model</h2><table>{head}{rows}</table>"


def _prompt(prompt: Mapping[str, Any] | None) -> str:
    if prompt is None:
        return ""
    return _text_section("Prompt template", prompt["template"]) + _text_section(
        "Prompt as it was sent", prompt["rendered"]
    )


def _text_section(title: str, unified: str | None) -> str:
    return "" if unified is None else f"<h2>{_text(title)}</h2>{_diff(unified)}"


def _diff(unified: str) -> str:
    lines = []
    for line in unified.split("\n"):
        kind = "add" if line.startswith("+") else "del" if line.startswith("-") else ""
        lines.append(f'<span class="{kind}">{_text(line)}</span>' if kind else f"{_text(line)}\n")
    return f'<pre class="diff">{"".join(lines)}</pre>'


def _aligned(title: str, aligned: Mapping[str, Any] | None, shown: Any) -> str:
    if aligned is None:
        return ""
    rows = [
        *(f'<tr><td class="bad">removed</td><td>{shown(item)}</td></tr>' for item in aligned["removed"]),
        *(f'<tr><td class="good">added</td><td>{shown(item)}</td></tr>' for item in aligned["added"]),
        *(f'<tr><td class="warn">changed</td><td>{shown(item)}</td></tr>' for item in aligned["changed"]),
    ]
    if not rows:
        return ""
    columns = '<colgroup><col style="width:7rem"><col></colgroup>'
    unchanged = f'<p class="dim">{aligned["unchanged"]} unchanged</p>' if aligned["unchanged"] else ""
    return f"<h2>{title}</h2><table>{columns}{''.join(rows)}</table>{unchanged}"


def _message(item: Mapping[str, Any]) -> str:
    if "message" in item:
        return _value(item["message"])
    return _diff(item["text"]) if item["text"] is not None else _value([item["left"], item["right"]])


def _call(item: Mapping[str, Any]) -> str:
    return f"<code>{_text(item['name'])}</code>{_value(item['arguments'])}"


def _measures(measures: Mapping[str, Any] | None) -> str:
    known = {
        name: measure
        for name, measure in (measures or {}).items()
        if measure["left"] is not None or measure["right"] is not None
    }
    if not known:
        return ""
    rows = "".join(
        f"<tr><td>{_text(name)}</td>"
        + "".join(
            f'<td class="number">{_number(measure[side])}</td>' for side in ("left", "right", "difference")
        )
        + "</tr>"
        for name, measure in known.items()
    )
    head = "<tr><th>Measure</th><th>Before</th><th>After</th><th>Difference</th></tr>"
    return f"<h2>Time, tokens, cost</h2><table>{head}{rows}</table>"


def _number(value: float | None) -> str:
    return "" if value is None else _text(f"{value:,.10g}")


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f"<h2>Not compared</h2><ul>{items}</ul>" if items else ""
