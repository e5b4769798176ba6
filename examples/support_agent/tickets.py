"""The tickets of the example: customers' messages, with what a support lead would have done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TICKETS = Path(__file__).with_name("tickets.jsonl")


@dataclass(frozen=True, slots=True)
class Ticket:
    """One message of a customer.

    Attributes:
        id: number of the ticket.
        channel: how it came in.
        message: the customer's words.
        expected_action: what the support lead would have done.
        lead_output: the whole answer as the lead wrote it, where they wrote one.
    """

    id: str
    channel: str
    message: str
    expected_action: str
    lead_output: Mapping[str, str] | None = None


def read_tickets(path: Path = TICKETS) -> list[Ticket]:
    """All tickets of a JSON-lines file, in its order."""
    with path.open(encoding="utf-8") as lines:
        return [Ticket(**json.loads(line)) for line in lines if line.strip()]
