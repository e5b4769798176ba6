"""The server's settings, as a command reads them: a variable that nothing reads is said."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from loopgrid_query.cli import profiles

if TYPE_CHECKING:
    from loopgrid_collector.config import CollectorConfig


def read_settings(**options: Any) -> CollectorConfig:
    """Settings of the environment, with the command's options on top.

    A mistyped variable would leave the default in force, which may be another ledger; so each unknown
    one is named on stderr.

    Args:
        **options: fields by name; None means "not given".

    Raises:
        Misconfigured: a value cannot be meant.
    """
    # Imported late: most commands need nothing of the collector.
    from loopgrid_collector.config import CollectorConfig, unknown_variables

    for name, near in unknown_variables(os.environ).items():
        if name == profiles.VARIABLE:
            continue
        hint = f"did you mean {near}?" if near else "`loopgrid serve` reads those of docs/settings.md."
        sys.stderr.write(f"loopgrid: warning: nothing reads {name}; {hint}\n")
    return CollectorConfig.from_env(os.environ, **options)
