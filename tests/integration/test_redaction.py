"""What may not leave the process is nowhere in the ledger."""

from __future__ import annotations

import pytest

import loopgrid
from loopgrid import LoopGrid, Redaction, errors
from loopgrid.redaction import CREDIT_CARD, EMAIL

pytestmark = pytest.mark.integration

CARD = "4111 1111 1111 1111"


@loopgrid.decision("charge")
def charge(customer: dict[str, str], note: str) -> str:
    loopgrid.current().metadata(mail="ada@example.com")
    if note == "fail":
        raise ValueError(f"no account {customer['iban']} of ada@example.com")
    return f"charged {CARD} of {customer['name']}"


def test_a_redacted_value_is_in_no_file_of_the_server_and_the_record_says_what_is_missing(server, tmp_path):
    loopgrid.configure(
        endpoint=server.api,
        redact=Redaction(
            keys=["iban"],
            patterns=[EMAIL, CREDIT_CARD, r"(?<=no account )\w+"],
            callback=lambda key, value: "A." if key == "name" else value,
        ),
    )
    customer = {"name": "Lovelace", "iban": "DE02120300000000202051"}
    charge(customer, note="mail ada@example.com")
    with pytest.raises(ValueError, match="no account DE02"):
        charge(customer, note="fail")
    assert loopgrid.flush()

    with LoopGrid(endpoint=server.api) as grid:
        failed, charged = grid.list_decisions()["items"]
        with pytest.raises(errors.NotReplayable, match=r"input.customer was not recorded as it was"):
            grid.replay(charged["decision_id"], overrides={})
        # Read while it is in the log: in the file itself, text is compressed.
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    server.stop()

    assert charged["input"] == {
        "customer": {"name": "A.", "iban": "[redacted]"},
        "note": "mail [redacted: email]",
    }
    assert charged["output"] == "charged [redacted: credit card] of Lovelace"
    assert charged["function"].endswith("test_redaction.charge")
    assert "input.customer.iban:redacted" in charged["lossiness"]
    assert failed["error"]["message"] == "no account [redacted: pattern] of [redacted: email]"
    assert loopgrid.counters()["redacted"] >= 8
    assert b"mail [redacted: email]" in kept, "the ledger's text can be searched for"
    for secret in (b"ada@example.com", b"4111 1111", b"DE021203"):
        assert secret not in kept
