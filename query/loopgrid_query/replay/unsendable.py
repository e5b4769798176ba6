"""Why a recorded model call cannot be sent again as it was."""

from __future__ import annotations


class Unsendable(Exception):
    """Sending it would send something else than what was recorded.

    Its text is a sentence that says what is missing, for whoever asked for the replay.
    """
