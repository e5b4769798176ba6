"""Prompts that overrides name, looked up among those that the ledger has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopgrid_query.queries import Reader
from loopgrid_query.replay.overrides import Overrides, Version, named_prompt, with_template


class SeenPrompts:
    """The prompts of one ledger.

    Args:
        reader: reads it.
        remembers: whether what was read once is not read again: for many decisions in a short time.
    """

    def __init__(self, reader: Reader, *, remembers: bool = False) -> None:
        self._reader = reader
        self._remembers = remembers
        self._known: dict[str, list[Version]] = {}

    def resolve(self, overrides: Overrides, decision: Mapping[str, Any]) -> Overrides:
        """Overrides whose prompt has its template, where they name a prompt without one.

        What is filled in becomes part of the replay's record, so that the record says which text was
        meant, whatever is recorded under that name and version later.

        Args:
            overrides: checked by ``overrides.check``.
            decision: the original, parsed.

        Raises:
            Invalid: the ledger has no template, or several, of that name and version; the message says
                which versions exist, or the nearest name.
        """
        named = named_prompt(overrides, decision)
        if named is None:
            return overrides
        name, version = named
        versions = [] if name is None else self._versions(name)
        names = [] if versions or name is None else self._names()
        return with_template(overrides, name, version, versions, names)

    def _versions(self, name: str) -> list[Version]:
        if name in self._known:
            return self._known[name]
        found = [
            Version(row["version"], tuple(row["templates"] or ()))
            for row in self._reader.rows("prompt_texts", {"name": name})
        ]
        if self._remembers:
            self._known[name] = found
        return found

    def _names(self) -> list[str]:
        return [row["name"] for row in self._reader.rows("prompt_names", {})]
