"""Ids: made, and read from what a client sent."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Final

from loopgrid.schema import format_decision_id, is_replay_id, parse_decision_id
from loopgrid_query.errors import FieldError, Malformed

DECISION_ID_PATTERN: Final = r"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}"
"""What ``decision_id_fault`` lets pass, for schemas."""
REPLAY_ID_PATTERN: Final = r"rpl_[0-9a-f]{32}"
REPLAY_ID_FORM: Final = "a replay id is rpl_ and 32 lower-case hex digits"

_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_ENTRY_ID_BYTES: Final = 16
_ZERO: Final = re.compile(r"0{32}-.*|.*-0{16}")


def new_decision_id() -> str:
    """A random decision id: a trace of its own, one span."""
    return format_decision_id(_random(_TRACE_ID_BYTES), _random(_SPAN_ID_BYTES))


def new_mark_id(decision_id: str, key: str | None = None) -> str:
    """A mark id: random, or the one that belongs to an idempotency key of this decision."""
    return "mrk_" + _entry_id(b"loopgrid.mark", decision_id, key)


def new_correction_id(decision_id: str, key: str | None = None) -> str:
    """A correction id: random, or the one that belongs to an idempotency key of this decision."""
    return "cor_" + _entry_id(b"loopgrid.correction", decision_id, key)


_PREFIXES: Final = {
    "approval": "apr_",
    "agreement": "agr_",
    "dispute": "dsp_",
    "withdrawal": "wdr_",
    "adjudication": "adj_",
    "outcome": "out_",
}


def new_entry_id(event: str, about: str, key: str | None = None) -> str:
    """Id of an entry: random, or the one that belongs to an idempotency key.

    Args:
        event: type of the entry.
        about: what it speaks of; the same key means something else elsewhere.
        key: the idempotency key.
    """
    return _PREFIXES[event] + _entry_id(f"loopgrid.{event}".encode(), about, key)


def _entry_id(seed: bytes, decision_id: str, key: str | None) -> str:
    if key is None:
        return os.urandom(_ENTRY_ID_BYTES).hex()
    # The id says what it stands for: no list of keys has to be kept, and it holds after a restart.
    digest = hashlib.sha256(b"\0".join((seed, decision_id.encode(), key.encode())))
    return digest.digest()[:_ENTRY_ID_BYTES].hex()


def new_price_book_id() -> str:
    """A random price book id."""
    return "prc_" + os.urandom(_ENTRY_ID_BYTES).hex()


def new_review_id() -> str:
    """A random id of a review queue."""
    return "rev_" + os.urandom(_ENTRY_ID_BYTES).hex()


def new_review_event_id() -> str:
    """A random id of something that happened to a review queue."""
    return "rve_" + os.urandom(_ENTRY_ID_BYTES).hex()


def new_replay_id() -> str:
    """A random replay id."""
    return "rpl_" + os.urandom(_ENTRY_ID_BYTES).hex()


def new_replay_event_id() -> str:
    """A random id of something that happened to a replay."""
    return "rpe_" + os.urandom(_ENTRY_ID_BYTES).hex()


def _random(size: int) -> int:
    # OpenTelemetry reserves the id zero for "none".
    return int.from_bytes(os.urandom(size)) or 1


def decision_id_fault(text: str) -> str | None:
    """What is wrong with a decision id, or ``None``."""
    try:
        parse_decision_id(text)
    except ValueError as error:
        return str(error)
    return "the all-zero trace or span id means “none”" if _ZERO.fullmatch(text) else None


def split_decision_id(text: str, field: str = "decision_id") -> tuple[int, int]:
    """Trace and span id of a decision id that stood in the address.

    Raises:
        Malformed: it has not the form of one.
    """
    fault = decision_id_fault(text)
    if fault is not None:
        raise Malformed.of([FieldError(field, fault)])
    return parse_decision_id(text)


def check_replay_id(text: str) -> str:
    """The replay id that stood in the address.

    Raises:
        Malformed: it has not the form of one.
    """
    if not is_replay_id(text):
        raise Malformed.of([FieldError("replay_id", REPLAY_ID_FORM)])
    return text


COHORT_ID_PATTERN: Final = r"coh_[0-9a-f]{32}"
EXPERIMENT_ID_PATTERN: Final = r"exp_[0-9a-f]{32}"


def new_cohort_id() -> str:
    """A random cohort id."""
    return "coh_" + os.urandom(_ENTRY_ID_BYTES).hex()


def new_experiment_id(key: str | None = None) -> str:
    """An experiment id: random, or the one that belongs to an idempotency key."""
    return "exp_" + _entry_id(b"loopgrid.experiment", "", key)


def new_schedule_id() -> str:
    """A random schedule id."""
    return "sch_" + os.urandom(_ENTRY_ID_BYTES).hex()


def new_experiment_event_id() -> str:
    """A random id of something that happened to an experiment."""
    return "exe_" + os.urandom(_ENTRY_ID_BYTES).hex()


def item_replay_id(experiment_id: str, arm: str, decision_id: str) -> str:
    """Id of the replay that is an item of an experiment: found without being looked up, and made once."""
    return "rpl_" + _entry_id(b"loopgrid.experiment.item", decision_id, f"{experiment_id}/{arm}")
