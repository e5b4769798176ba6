"""Charts as inline SVG: bars that are made of parts, and intervals on one axis. Pure.

They scale with the page, take its colours and need nothing else. Each says in a title what it shows, so
that who cannot see it can read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loopgrid_query.reports.inert import text

STYLE: Final = """
svg{width:100%;height:auto;display:block;margin:.5rem 0}
svg text{font:13px system-ui,sans-serif;fill:currentColor}
svg .good{fill:var(--good)}svg .bad{fill:var(--bad)}svg .warn{fill:var(--warn)}svg .dim{fill:#777}
svg .line{stroke:currentColor;stroke-width:2}svg .grid{stroke:var(--line);stroke-width:1}
svg .onbar{fill:#fff;font-weight:600}
"""
"""Rules that the charts need on top of those of the page."""

WIDTH: Final = 760
"""Units of a chart's width; the page scales it."""
_LABEL: Final = 190
_ROW: Final = 34
_BAR: Final = 20
_END: Final = 24
_FEWEST_UNITS: Final = 26
"""Units of a part that a number fits into."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar: how many, what they are, and a class of colour."""

    count: int
    named: str
    colour: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A value on the axis from -1 to 1, with the ends of its interval where it has one."""

    label: str
    value: float
    low: float | None
    high: float | None


def bars(title: str, rows: Sequence[tuple[str, Sequence[Part]]]) -> str:
    """One bar a row, as long as its share of the longest; rows without a part are left out.

    Args:
        title: what the chart shows.
        rows: label and parts.
    """
    shown = [(label, [part for part in parts if part.count]) for label, parts in rows]
    shown = [(label, parts) for label, parts in shown if parts]
    if not shown:
        return ""
    longest = max(sum(part.count for part in parts) for _, parts in shown)
    scale = (WIDTH - _LABEL - _END) / longest
    drawn = []
    for number, (label, parts) in enumerate(shown):
        top = number * _ROW + 4
        drawn.append(f'<text x="0" y="{top + 15}">{text(label)}</text>')
        left = float(_LABEL)
        for part in parts:
            width = part.count * scale
            drawn.append(
                f'<rect class="{part.colour}" x="{left:.2f}" y="{top}" width="{width:.2f}" height="{_BAR}">'
                f"<title>{part.count} {text(part.named)}</title></rect>"
            )
            if width >= _FEWEST_UNITS:
                drawn.append(
                    f'<text class="onbar" x="{left + width / 2:.2f}" y="{top + 15}" text-anchor="middle">'
                    f"{part.count}</text>"
                )
            left += width
    return _svg(title, len(shown) * _ROW, drawn)


def intervals(title: str, rows: Sequence[Interval]) -> str:
    """Values with their intervals on one axis of shares: from 0, or from -100% where one is negative.

    Args:
        title: what the chart shows.
        rows: the values, from top to bottom.
    """
    if not rows:
        return ""
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    least = -1 if min(ends) < 0 else 0
    scale = (WIDTH - _LABEL - 2 * _END) / (1 - least)

    def place(value: float) -> float:
        return _LABEL + _END + (value - least) * scale

    height = len(rows) * _ROW + 24
    drawn = []
    for tick in range(least * 4, 5):
        at = place(tick / 4)
        drawn.append(f'<line class="grid" x1="{at:.2f}" x2="{at:.2f}" y1="0" y2="{height - 20}"/>')
        drawn.append(f'<text x="{at:.2f}" y="{height - 4}" text-anchor="middle">{tick * 25}%</text>')
    for number, row in enumerate(rows):
        middle = number * _ROW + 14
        drawn.append(f'<text x="0" y="{middle + 5}">{text(row.label)}</text>')
        said = f"{row.label}: {row.value:.1%}"
        if row.low is not None and row.high is not None:
            said += f", from {row.low:.1%} to {row.high:.1%}"
            drawn.append(
                f'<line class="line" x1="{place(row.low):.2f}" x2="{place(row.high):.2f}" '
                f'y1="{middle}" y2="{middle}"/>'
            )
        drawn.append(
            f'<circle class="value" cx="{place(row.value):.2f}" cy="{middle}" r="5" fill="currentColor">'
            f"<title>{text(said)}</title></circle>"
        )
    return _svg(title, height, drawn)


def _svg(title: str, height: int, drawn: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{text(title)}</title>{"".join(drawn)}</svg>'
    )
