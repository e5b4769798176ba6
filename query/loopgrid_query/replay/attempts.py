"""What is known of an attempt of a replay, and what may become of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from loopgrid.schema import replay_result_id


class Outcome(StrEnum):
    """What whoever ran an attempt says became of it."""

    RAN = "ran"
    """The function ran to its end, or raised: its decision is on record and says which."""
    FAILED = "failed"
    """It began to run and was ended: at the time limit, or with its process."""
    REFUSED = "refused"
    """Nothing ran, and trying again would not change that."""
    GIVEN_BACK = "given_back"
    """Nothing is known of a result, and somebody else shall run it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """An attempt held by somebody.

    Attributes:
        worker: who runs it.
        length_s: seconds from one heartbeat to the end; None where nobody else could take it over.
        until: when it ends, by the lifecycle's clock; None likewise.
    """

    worker: str
    length_s: float | None
    until: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt of a replay that has not ended, or is to begin.

    Attributes:
        replay_id: the replay.
        decision_id: the decision that it replays.
        executor: who can run it.
        function: the recorded function; None where no function runs.
        number: which attempt, from 1.
        lease: who runs it; None while it is pending.
        silent: the worker of the attempt before, where that one ended by silence: it may still be heard of.
        lost: how many attempts in a row ended by silence.
    """

    replay_id: str
    decision_id: str
    executor: str
    function: str | None
    number: int = 1
    lease: Lease | None = None
    silent: str | None = None
    lost: int = 0

    @property
    def result_id(self) -> str:
        """Id of the decision that it is recorded as."""
        return replay_result_id(self.replay_id, self.number)

    def again(self, *, silent: str | None = None) -> Attempt:
        """The attempt after this one."""
        lost = self.lost + 1 if silent is not None else 0
        return replace(self, number=self.number + 1, lease=None, silent=silent, lost=lost)
