"""What both HTTP users of this package share: how we name ourselves, how we read `Retry-After`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from loopgrid.version import version

USER_AGENT: Final = f"loopgrid-python/{version()}"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait (RFC 9110 §10.2.3: a number or a date), or None."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
