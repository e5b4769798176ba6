"""What the process says while it runs: JSON lines for machines, and no flood of one sentence.

No payload and no secret enters a log. An exception is told by its type and its frames; its text could
quote what a sender sent.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

_FOR_PEOPLE: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and an error's type and frames."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, str | list[str]] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["frames"] = traceback.format_tb(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False)


def configure(stream: TextIO, level: int = logging.INFO) -> None:
    """Send every log of the process to a stream: text on a terminal, JSON lines elsewhere."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(_FOR_PEOPLE) if stream.isatty() else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class OncePerSecond:
    """A logger that says the same sentence once a second at most, with how often it went unsaid.

    A storm ends with what was suppressed in its last second unsaid: counts that matter are metrics.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """Speak through ``log``."""
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, int]] = {}

    def __call__(self, level: int, message: str, *arguments: object) -> None:
        """Say it, unless it was said less than a second ago. Sentences are told apart before formatting."""
        now = self._clock()
        with self._lock:
            last, unsaid = self._said.get(message, (now - 1.0, 0))
            if now - last < 1.0:
                self._said[message] = (last, unsaid + 1)
                return
            self._said[message] = (now, 0)
        if unsaid:
            self._log.log(level, message + " (and %d times more since it was last said)", *arguments, unsaid)
        else:
            self._log.log(level, message, *arguments)
