"""``--override prompt.version=2``: from words on a command line to the API's overrides. Pure.

Which keys exist is the server's knowledge (``replay/overrides.py``); here only the form counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from loopgrid_query.cli.errors import CliError

_TEXT = re.compile(r"prompt\.(name|version|template|variables\..+)|model\.(provider|name)")
"""Paths whose values are text, so that ``prompt.version=2`` is the version "2"."""

EXAMPLE = "--override prompt.version=2"


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """The overrides object of ``path=value`` words.

    A value that reads as JSON is that JSON, except where the field is text; else it is text.

    Raises:
        CliError: a word has no ``=``, a path is empty, or two words contradict each other.
    """
    overrides: dict[str, Any] = {}
    for word in words:
        path, equals, value = word.partition("=")
        names = path.split(".")
        if not equals or not all(names):
            raise CliError(f"cannot read the override {word!r}; write path=value, as in {EXAMPLE}.")
        _put(overrides, names, _value(path, value), word)
    return overrides


def _value(path: str, text: str) -> Any:
    if _TEXT.fullmatch(path):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(overrides: dict[str, Any], names: list[str], value: Any, word: str) -> None:
    inner = overrides
    for name in names[:-1]:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise CliError(f"the override {word!r} reaches into {name!r}, which is given whole before.")
    if names[-1] in inner:
        raise CliError(f"the override {word!r} gives {'.'.join(names)!r} a second time; give it once.")
    inner[names[-1]] = value
