"""A decision on a reviewer's screen: readable in the terminal's width, and unable to steer it. Pure.

Recorded text reaches the screen through ``plain`` only.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from loopgrid_query.cli.gist import plain, whole

MAX_LINES: Final = 40
"""Lines of one part that are shown before ``m`` asks for more."""

_DIFF_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}


def page(decision: Mapping[str, Any], *, whole_of_it: bool = False) -> RenderableType:
    """What a reviewer needs to judge a decision: what it was asked, by which prompt, and what it said."""
    model = decision.get("model") or {}
    facts = [
        decision.get("decision_type") or decision.get("kind"),
        decision.get("service_name"),
        model.get("response_name") or model.get("name"),
        (decision.get("started_at") or "")[:19].replace("T", " "),
    ]
    parts = [Text(plain(" · ".join(str(fact) for fact in facts if fact), one_line=True), style="dim")]
    shown: list[RenderableType] = [*parts]
    for title, text in _parts(decision):
        shown.append(_panel(title, text, whole_of_it=whole_of_it))
    return Group(*shown)


def _parts(decision: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    prompt = decision.get("prompt") or {}
    if prompt.get("template"):
        named = " ".join(
            filter(
                None,
                ["prompt", prompt.get("name"), f"v{prompt['version']}" if prompt.get("version") else None],
            )
        )
        yield named, readable(prompt["template"])
        if prompt.get("variables"):
            yield "prompt variables", readable(prompt["variables"])
    yield "input", readable(decision.get("input"))
    if (decision.get("error") or {}).get("type"):
        yield "error", readable(decision["error"])
    if decision.get("metadata"):
        yield "metadata", readable(decision["metadata"])
    yield "output", readable(decision.get("output"))


def _panel(title: str, text: str, *, whole_of_it: bool) -> Panel:
    lines = text.split("\n")
    body = Text(text)
    if len(lines) > MAX_LINES and not whole_of_it:
        body = Text("\n".join(lines[:MAX_LINES]))
        body.append(f"\n… {len(lines) - MAX_LINES} more lines: press m", style="dim")
    style = "bold cyan" if title == "output" else "bold"
    return Panel(body, title=Text(plain(title, one_line=True), style=style), title_align="left")


def readable(value: Any) -> str:
    """Recorded content as text: messages as a conversation, other values by name, nothing left out."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "role" in one for one in value):
        return "\n\n".join(_message(one) for one in value)
    if isinstance(value, dict) and value and all(_simple(member) for member in value.values()):
        return "\n".join(f"{plain(name, one_line=True)}: {whole(member)}" for name, member in value.items())
    return whole(value) if value is not None else "null"


def _simple(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _message(message: Mapping[str, Any]) -> str:
    parts = message.get("parts")
    if not isinstance(parts, list):
        parts = [{"content": message.get("content")}]
    texts = [part["content"] if _is_text(part) else json.dumps(part, ensure_ascii=False) for part in parts]
    return f"{plain(str(message['role']), one_line=True)}: {plain(chr(10).join(texts))}"


def _is_text(part: Any) -> bool:
    return (
        isinstance(part, dict) and isinstance(part.get("content"), str) and set(part) <= {"type", "content"}
    )


def editable(output: Any) -> str:
    """The output as it is edited: text as it is, anything else as indented JSON."""
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, indent=2)


def edited(text: str, before: Any) -> Any:
    """What an edited text says the output should be.

    Args:
        text: it, as an editor left it.
        before: the output it was made of.

    Raises:
        ValueError: it should be JSON and is none.
    """
    if isinstance(before, str):
        # An editor ends the last line of a file; the output did not.
        return text if before.endswith("\n") else text.removesuffix("\n")
    return json.loads(text)


def difference(before: Any, after: Any) -> Text:
    """What an edit changes, line by line."""
    old, new = editable(before).split("\n"), editable(after).split("\n")
    shown = Text()
    for line in list(difflib.unified_diff(old, new, lineterm="", n=3))[2:]:
        shown.append(plain(line, one_line=False) + "\n", style=_DIFF_STYLES.get(line[:1], ""))
    return shown
