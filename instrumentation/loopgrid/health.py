"""What went wrong inside LoopGrid: counted always, logged once per cause, never with a payload.

A failure here costs a record, never the application's call; this page is where the cost can be read.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from loopgrid.errors import Fatal

logger: Final = logging.getLogger("loopgrid")


class Count(StrEnum):
    """What is counted. One unit is one decision, step or tool call, except where it says otherwise."""

    STARTED = "started"
    """A sequence number was taken: the record is complete when as many arrive."""
    ACKNOWLEDGED = "acknowledged"
    """The collector answered 200 and refused nothing."""
    OPEN_FAILED = "open_failed"
    """LoopGrid could not open the decision; its call ran without a record."""
    INPUT_FAILED = "input_failed"
    """The input could not be captured; the decision was recorded without it."""
    OUTPUT_FAILED = "output_failed"
    """The output could not be captured; the decision was recorded without it."""
    END_FAILED = "end_failed"
    """The decision could not be ended or handed over."""
    FACT_FAILED = "fact_failed"
    """One stated fact (usage, model, metadata…) could not be recorded; unit: facts."""
    FACT_LATE = "fact_late"
    """One fact was stated after its decision had ended; unit: facts."""
    SPOOL_FULL = "spool_full"
    """Dropped: the spool was full, or its disk took nothing, and the policy allows it."""
    TURNED_AWAY = "turned_away"
    """Not lost: the spool was full, the policy is to raise, and so the function did not run; unit: calls."""
    NOT_DURABLE = "not_durable"
    """`sync` was asked for and the disk did not confirm in time; the decision may still arrive."""
    EXPIRED = "expired"
    """Dropped: it had waited in the spool longer than `max_spool_age_s`."""
    CLOSED = "closed"
    """Dropped: LoopGrid had been shut down."""
    REFUSED = "refused"
    """The collector refused it for good; it is kept in the spool folder under `refused`."""
    BLOCKED = "blocked"
    """The collector wants another key, or is none; decisions wait in the spool. Unit: requests."""
    REJECTED = "rejected"
    """The collector took the request and rejected this decision; it is in its quarantine."""
    DAMAGED = "damaged"
    """Lost: records of the spool that no longer fit their checksum. What follows them is sent, and the file
    is kept under `refused`. Unit: damaged places, each of which may have held several records."""
    DEFECT = "defect"
    """Lost: it could not be encoded, or a defect of ours."""
    REDACTED = "redacted"
    """Values that the redaction rules replaced; unit: values."""
    REDACTION_FAILED = "redaction_failed"
    """The redaction rules raised; the span was sent without its content."""
    UNFINISHED = "unfinished"
    """A decision of an ended process was reported as started and never ended."""
    RECOVERED = "recovered"
    """A decision of an ended process was found in the spool and acknowledged."""
    ATTACHED = "attached"
    """Spans of other instrumentations taken over; unit: spans. `acknowledged` counts them, too."""
    ATTACH_FAILED = "attach_failed"
    """Lost to us: a span of the attached provider could not be taken over; unit: spans."""
    MIRROR_FAILED = "mirror_failed"
    """The decision is recorded, and could not be handed to the application's own provider."""


class Health:
    """Counters of one process and the memory of what was already logged."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start anew, as a forked child must: the parent's lock may be held in the copy."""
        # Re-entrant, because a signal handler may decide while this very thread counts. For the same reason
        # every counter is there from the start and is stepped in one statement, which no handler interrupts.
        self._lock = threading.RLock()
        self._counts = {str(what): 0 for what in Count}
        # Every decision takes a number. A lock for that is what threads that decide at once would queue for;
        # to append is one step that neither a thread nor a signal handler interrupts.
        self._ticks: deque[None] = deque()
        self._logged: set[str] = set()

    def tick(self) -> None:
        """Count one sequence number."""
        self._ticks.append(None)

    def _add_up(self) -> None:
        with self._lock:
            for _ in range(len(self._ticks)):
                self._ticks.popleft()
                self._counts["started"] += 1

    def count(self, what: Count, number: int = 1) -> None:
        """Add to a counter."""
        name = str(what)
        with self._lock:
            self._counts[name] += number

    def trouble(self, what: Count, message: str, number: int = 1) -> None:
        """Count, and log the message as a warning the first time this happens in the process."""
        name = str(what)
        with self._lock:
            self._counts[name] += number
            first = name not in self._logged
            self._logged.add(name)
        if first:
            logger.warning(
                "%s (%s=%d; counted in loopgrid.counters(), logged once per cause)", message, name, number
            )

    @property
    def started(self) -> int:
        """Sequence numbers taken so far."""
        self._add_up()
        return self._counts["started"]

    def counters(self) -> dict[str, int]:
        """All counters that are not zero, by name."""
        self._add_up()
        with self._lock:
            return {name: number for name, number in self._counts.items() if number}


def where(error: BaseException) -> str:
    """Type and place of an error, without its message: messages may quote the application's data.

    What is wrong with a setting is said in full: it holds no data, and names what to change.
    """
    if isinstance(error, Fatal):
        return error.message
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} at {PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


health: Final = Health()
"""The counters of this process."""
