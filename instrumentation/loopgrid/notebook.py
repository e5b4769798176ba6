"""Results as a notebook shows them: small pieces of HTML, everything recorded escaped. Pure.

The whole of a comparison is a page of its own (`loopgrid compare --html`); this is what one looks at first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any, Final

MAX_SHOWN_PLACES: Final = 50
"""Differing places in one table."""
MAX_SHOWN_CHARS: Final = 2000
"""Characters of one value in the table."""

_COLOURS: Final = {"fixed": "#1a7f37", "still_wrong": "#cf222e", "newly_broken": "#cf222e"}
_SIDES: Final = ("decision", "replay", "correction")
_STEERING: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_SHOWN: Final = {
    **{code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}"),
    **{code: f"[U+{code:04X}]" for code in _STEERING},
}


def comparison_html(comparison: Mapping[str, Any]) -> str:
    """Verdict, differing places, and what changed of time, tokens and cost.

    Args:
        comparison: the API's comparison.
    """
    verdict = str(comparison["verdict"])
    colour = _COLOURS.get(verdict, "#9a6700")
    titles = ("place", "decision", "other" if comparison.get("replay") is None else "replay", "correction")
    places = comparison.get("differences") or []
    rows = [
        _row([place["path"]], [_side(place, side) for side in _SIDES]) for place in places[:MAX_SHOWN_PLACES]
    ]
    rows += [
        _row([name], [_value(measure["left"]), _value(measure["right"]), ""])
        for name, measure in (comparison.get("measures") or {}).items()
        if measure["left"] is not None or measure["right"] is not None
    ]
    head = "".join(f"<th style='text-align:left'>{title}</th>" for title in titles)
    more = len(places) - MAX_SHOWN_PLACES
    rest = f"<p>{more} more places differ.</p>" if more > 0 else ""
    return (
        f"<div><p><b style='color:{colour}'>{_text(verdict)}</b>: {_text(comparison['why'])}</p>"
        f"<table><tr>{head}</tr>{''.join(rows)}</table>{rest}</div>"
    )


def _row(names: list[str], cells: list[str]) -> str:
    written = [*map(_text, names), *cells]
    style = "text-align:left;vertical-align:top;white-space:pre-wrap"
    return "<tr>" + "".join(f"<td style='{style}'>{cell}</td>" for cell in written) + "</tr>"


def _side(place: Mapping[str, Any], side: str) -> str:
    return "" if side in place["absent"] else _value(place[side], null="null")


def _value(value: Any, null: str = "") -> str:
    if value is None:
        return null
    return _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2))


def _text(text: str) -> str:
    cut = text[:MAX_SHOWN_CHARS].translate(_SHOWN)
    return escape(cut, quote=True) + (" …" if len(text) > MAX_SHOWN_CHARS else "")
