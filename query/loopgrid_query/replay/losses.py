"""What is missing from a record, told to whoever wants to send it again. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from loopgrid_query.replay.unsendable import Unsendable

_HARMLESS: Final = re.compile(
    # About the answer, about who asked, or about nothing that was sent.
    r"(output|gen_ai\.output|gen_ai\.completion|llm\.output_messages|ai\.response|error|metadata|tags|user_id|"
    r"session_id|user\.|session\.|loopgrid\.(metadata|key|tags|error|decision\.(returned|outcome|considered|"
    r"not_executed)))([.:\[]|$).*"
    r"|output_missing|incomplete_stream|end_unknown|kind_inferred|unknown_fields|scrubbed:.*"
    r"|(masked|elsewhere):output|model_parameters:defaults_left_out"
    # These leave the value that was sent as it is.
    r"|[^:]*:untyped:.*"
)
_OF_THE_PROMPT: Final = re.compile(r"prompt([._].*)?:.*|gen_ai\.prompt\.variable\..*")


def check(lossiness: Iterable[str] | None, *, prompt: bool) -> None:
    """Refuse a record of which something that was sent is missing.

    Args:
        lossiness: codes of the record.
        prompt: whether template and variables are needed.

    Raises:
        Unsendable: something is; says what.
    """
    for code in lossiness or ():
        if _HARMLESS.fullmatch(code) or (not prompt and _OF_THE_PROMPT.fullmatch(code)):
            continue
        raise Unsendable(_sentence(code))


_SENTENCES: Final = {
    "input_missing": "Its input was not captured.",
    "continued": "It continues a conversation whose earlier part only the provider holds.",
    "masked": "Its {rest} was hidden at the source.",
    "elsewhere": "Its {rest} was uploaded elsewhere, and the record has a reference only.",
    "attributes_dropped": "The sender dropped {rest} attributes, which may have held content.",
    "events_dropped": "The sender dropped {rest} events, which may have held content.",
}
_KINDS: Final = {
    "truncated": "was truncated",
    "redacted": "was redacted",
    "unparsable": "was cut and does not parse",
}


def _sentence(code: str) -> str:
    head, _, rest = code.partition(":")
    if head == "content_off":
        return "Its content was not captured." + (f" {rest} turns it on." if rest else "")
    if head in _SENTENCES:
        return _SENTENCES[head].format(rest=rest)
    kind = _KINDS.get(rest.partition(":")[0])
    return (
        f"The record is not whole: {head} {kind} ({code})." if kind else f"The record is not whole: {code}."
    )
