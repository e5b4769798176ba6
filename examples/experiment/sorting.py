"""A function that sorts tickets, with the prompt in use and the one that shall replace it.

Keyword rules decide, so that no network is needed; put your model call in the place of ``label``.
"""

from __future__ import annotations

import loopgrid

_RULES = """\
broke -> complaint
charged -> question
where is -> question"""
_MORE = "money back -> refund\ntwice -> refund\n" + _RULES
IN_USE = loopgrid.Prompt("sort", version="1", template=f"Sort the ticket: {{ticket}}\n{_RULES}")
BETTER = loopgrid.Prompt(
    "sort",
    version="2",
    template=f"Sort the ticket: {{ticket}}\n{_MORE}",
)
TICKETS = {
    "My blender broke and I want my money back.": "refund",
    "I was charged twice for order 7.": "refund",
    "The kettle broke. Give me my money back!": "refund",
    "You charged me twice.": "refund",
    "Why was I charged twice? I want my money back.": "refund",
    "I paid twice, charged on 3 and 4 May.": "refund",
    "It broke, and the shop said money back in 30 days.": "refund",
    "Charged again! My money back please.": "refund",
    "My blender broke, can it be repaired?": "complaint",
    "Where is order 12?": "question",
    "What was I charged for?": "question",
    "Where is the manual of the kettle that broke?": "complaint",
}
"""Tickets, and the label that people say is right."""


def label(rules: str, ticket: str) -> str:
    """The label of the first rule whose words the ticket holds."""
    for line in rules.splitlines():
        words, arrow, found = (part.strip() for part in line.partition("->"))
        if arrow and words in ticket.lower():
            return found
    return "unsorted"


@loopgrid.decision("sort_ticket")
def sort(ticket: str, *, prompt: loopgrid.Prompt = IN_USE) -> dict[str, str]:
    """The label of a ticket."""
    return {"label": label(prompt.render(ticket=ticket), ticket)}
