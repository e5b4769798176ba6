"""Fenced code blocks of a Markdown page, and the marks before them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        page: path of the page inside the repository.
        line: line of the opening fence.
        language: word after the fence.
        code: what stands between the fences.
        reason: why it is not run, where the page says so.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(REPOSITORY).as_posix()
    return [
        Block(
            name,
            text.count("\n", 0, text.index("```", found.start())) + 1,
            found["language"],
            found["code"],
            found["reason"],
        )
        for found in _BLOCK.finditer(text)
    ]


def pages() -> list[Path]:
    """Every page that people read for instructions: not the dated decisions, not the changes."""
    top = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
    return top + [page for page in sorted((REPOSITORY / "docs").rglob("*.md")) if page.parent.name != "adr"]


def table_of_code(page: Path, head: str) -> list[str]:
    """The code spans that open the rows of the table with this first column."""
    text = page.read_text(encoding="utf-8")
    after = text.partition(f"| {head} |")[2]
    rows = after.partition("\n\n")[0].splitlines()[2:]
    return [found[1] for row in rows if (found := re.match(r"\| `([^`]+)`", row))]
