"""Which side of an export a decision stands on, so that no subject stands on both. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from loopgrid_query.exports.messages import Unfit
from loopgrid_query.instants import format_instant

TRAIN: Final = "train"
TEST: Final = "test"
DEFAULT_SALT: Final = "loopgrid"


@dataclass(frozen=True, slots=True)
class Rule:
    """How decisions are divided. Without a share and a moment all of them are for training.

    Attributes:
        test_share: share of the subjects that are for testing, 0 to 1.
        salt: what the subjects are hashed with; another salt divides them otherwise.
        split_at: what starts from here on is for testing, UTC without a zone; excludes a share.
    """

    test_share: float = 0.0
    salt: str = DEFAULT_SALT
    split_at: datetime | None = None

    @property
    def divides(self) -> bool:
        """Whether there are two sides at all."""
        return self.test_share > 0 or self.split_at is not None

    def side(self, row: Mapping[str, Any]) -> str:
        """The side of a decision.

        Raises:
            Unfit: it belongs to neither.
        """
        if self.split_at is not None:
            if row["started_at"] is None:
                raise Unfit("no_start_time")
            if row["started_at"] >= self.split_at:
                return TEST
            if row["straddles"]:
                raise Unfit("subject_continues_after_split")
            return TRAIN
        if self.test_share <= 0:
            return TRAIN
        told = "\0".join((self.salt, *subject(row))).encode("utf-8", "surrogatepass")
        return TEST if int.from_bytes(hashlib.sha256(told).digest()[:8]) < self.test_share * 2**64 else TRAIN

    def record(self) -> dict[str, Any]:
        """The rule as the manifest states it."""
        if self.split_at is not None:
            return {
                "by": "time",
                "split_at": format_instant(self.split_at),
                "rule": "train: started before; test: started at or after; a decision before, whose subject "
                "(session_id, else user_id, else decision_id) has one at or after, is left out",
            }
        if not self.divides:
            return {"by": "none", "rule": "train: all"}
        return {
            "by": "subject",
            "test_share": self.test_share,
            "salt": self.salt,
            "rule": "test where the first 8 bytes, big-endian, of SHA-256(salt, NUL, name, NUL, value) are "
            "below test_share * 2^64; name and value are session_id, else user_id, else decision_id",
        }


def subject(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a decision is about, for keeping related ones together: the field's name and its value."""
    for name in ("session_id", "user_id"):
        if row[name] is not None:
            return name, str(row[name])
    return "decision_id", str(row["decision_id"])
