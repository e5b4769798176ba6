"""How a command ends other than well."""

from __future__ import annotations

from typing import Final

NEGATIVE: Final = 1
"""Exit code of a command that did its work and whose answer is no."""

FAILURE: Final = 2
"""Exit code of a command that was called wrongly or could not do its work."""


class CliError(Exception):
    """The command cannot go on. The message is one sentence that says what to do."""
