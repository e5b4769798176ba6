"""Runs the support agent over its tickets; every reply becomes a decision in the ledger.

Start a server first (``loopgrid serve``), then: ``python examples/support_agent/run.py``.
``LOOPGRID_ENDPOINT`` names a server elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import loopgrid
import support_agent
from tickets import TICKETS, read_tickets

_PROMPTS = {prompt.version: prompt for prompt in (support_agent.SUPPORT_V1, support_agent.SUPPORT_V2)}
_FLUSH_TIMEOUT_S = 30.0


def main() -> int:
    """Exit code: 0 where every decision reached the ledger, 2 where not, or where there is no server."""
    parser = argparse.ArgumentParser(description="Answer support tickets, recording every decision.")
    parser.add_argument("--tickets", type=Path, default=TICKETS, help="JSON-lines file of tickets")
    parser.add_argument("--prompt-version", choices=sorted(_PROMPTS), default="1")
    options = parser.parse_args()

    loopgrid.configure(service_name="support-agent")
    try:
        # Asked before the tickets are: a model may cost money, and a reply that is not recorded is lost.
        loopgrid.LoopGrid().list_decisions(limit=1)
    except loopgrid.LoopGridError as error:
        print(error, file=sys.stderr)
        return 2
    prompt = _PROMPTS[options.prompt_version]
    right = 0
    tickets = read_tickets(options.tickets)
    for ticket in tickets:
        try:
            reply = support_agent.reply(ticket.message, prompt=prompt)
        except RuntimeError as error:
            print(f"{ticket.id}  failed: {error}")
            continue
        right += reply["action"] == ticket.expected_action
        print(f"{ticket.id}  {reply['action']:<16}  {reply['response']}")
    print(f"{right} of {len(tickets)} as the support lead would have done it")
    if not loopgrid.flush(_FLUSH_TIMEOUT_S):
        print("Not every decision reached the ledger; look at the server's log.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
