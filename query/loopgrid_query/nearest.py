"""The nearest known name to one that is not known. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or ``None`` where nothing is alike."""
    lowered = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause to append to "unknown …": the nearest name, or all of them."""
    names = sorted(known)
    suggestion = nearest(name, names)
    return f"did you mean {suggestion!r}?" if suggestion else f"known are: {', '.join(names)}"
