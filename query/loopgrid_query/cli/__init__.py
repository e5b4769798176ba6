"""The command line: ``loopgrid``."""

from __future__ import annotations

import sys

__all__ = ["main"]

_OWN_PACKAGES = frozenset({"loopgrid", "loopgrid_collector", "loopgrid_query"})


def main() -> None:
    """Entry point of the console script; ends the process with 0, 1 or 2 (``app.run``)."""
    try:
        # Imported late: on a base install typer is absent, and that deserves a sentence.
        from loopgrid_query.cli.app import run

        code = run()
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in _OWN_PACKAGES:
            raise
        sys.stderr.write(
            f"loopgrid: the command line needs {missing.name}, which comes with the server extra; "
            "install it with its server extra (README, “Install”).\n"
        )
        code = 2
    sys.exit(code)
