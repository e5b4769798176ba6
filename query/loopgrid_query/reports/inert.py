"""Recorded content on a page: something to look at, and nothing else. Pure.

Everything recorded is escaped, control and bidirectional characters are shown and not obeyed, and a page
forbids itself scripts and everything from elsewhere.
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
MAX_SHOWN_CHARS: Final = 200_000
"""Characters of one value on the page; the rest is in the JSON of the comparison."""

_BIDIRECTIONAL: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_SHOWN: Final = {
    **{
        code: "\N{REPLACEMENT CHARACTER}"
        for code in (*range(32), *range(127, 160))
        if chr(code) not in "\n\t"
    },
    **{code: f"[U+{code:04X}]" for code in _BIDIRECTIONAL},
    **dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}"),
}
STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--good:#1a7f37;--bad:#cf222e;--warn:#9a6700;
--add:#2da44e33;--del:#cf222e2b}
@media(prefers-color-scheme:dark){:root{--good:#3fb950;--bad:#f85149;--warn:#d29922}}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.3rem;margin:0 0 .3rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
.verdict{font-weight:700}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.dim{opacity:.7}
table{border-collapse:collapse;width:100%;table-layout:fixed}
th,td{border:1px solid var(--line);padding:.35rem .5rem;text-align:left;vertical-align:top}
th,td{overflow-wrap:anywhere}
td.number{text-align:right;font-variant-numeric:tabular-nums}
pre,code{font:13px/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
pre.diff{border:1px solid var(--line);padding:.5rem;margin:.3rem 0 1rem}
ins,.add{background:var(--add);text-decoration:none}del,.del{background:var(--del)}
.add,.del{display:block}
"""
"""What every page looks like."""


def document(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
        title: what its tab shows; recorded text may be in it.
        body: markup, in which everything recorded has gone through `text`.
        style: rules on top of ``STYLE``.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(CONTENT_SECURITY_POLICY)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title>"
        f"<style>{STYLE}{style}</style></head><body>{body}</body></html>\n"
    )


def shown(value: Any) -> str:
    """Recorded text with nothing in it that steers how text is shown; not yet escaped, and cut where it is
    longer than anybody reads.
    """
    written = str(value)
    cut = written[:MAX_SHOWN_CHARS]
    rest = f" [{len(written) - len(cut)} more characters]" if len(written) > len(cut) else ""
    return cut.replace("\r\n", "\n").translate(_SHOWN) + rest


def text(value: Any) -> str:
    """Recorded text as part of a page: as `shown`, and escaped."""
    return escape(shown(value), quote=True)
