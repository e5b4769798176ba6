"""What may not leave the process is nowhere in the ledger."""

from __future__ import annotations

import asyncio

import pytest

import loopgrid
from loopgrid import AsyncLoopGrid, LoopGrid, Redaction, errors
from loopgrid.redaction import CREDIT_CARD, EMAIL
from loopgrid.results import DecisionRecord

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


@pytest.fixture
def rules(server):
    """Rules in force for what this process sends."""
    loopgrid.configure(endpoint=server.api, redact=Redaction(keys=["iban"], patterns=[EMAIL]))


def test_what_the_methods_of_the_client_record_is_redacted_too(server, tmp_path, rules):
    with LoopGrid(endpoint=server.api) as grid:
        recorded = grid.record_decision(
            decision_type="charge",
            input={"iban": "DE02120300000000202051", "mail": "ada@example.com"},
            output="wrote to ada@example.com",
            metadata={"iban": "DE02120300000000202051"},
        )
        decision_id = recorded["decision_id"]
        grid.mark_incorrect(decision_id, reason="ada@example.com complained", marked_by="bob@example.org")
        grid.attach_correction(
            decision_id, correction={"iban": "DE02120300000000202051"}, corrected_by="bob@example.org"
        )
        grid.create_replay(
            decision_id,
            overrides={"input": {"mail": "ada@example.com"}},
            executor="external",
            output="wrote to ada@example.com again",
        )
        found = grid.sql("SELECT count(*) FROM corrections WHERE corrected_by = 'bob@example.org'")
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    assert recorded["input"] == {"iban": "[redacted]", "mail": "[redacted: email]"}
    assert found["rows"] == [[1]], "a question is asked as it stands, and who said it is kept"
    for secret in (b"ada@example.com", b"DE021203"):
        assert secret not in kept


def test_the_asynchronous_client_redacts_too(server, rules):
    async def record() -> DecisionRecord:
        async with AsyncLoopGrid(endpoint=server.api) as grid:
            return await grid.record_decision(decision_type="charge", output="ada@example.com")

    recorded = asyncio.run(record())

    assert recorded["output"] == "[redacted: email]"


def test_an_override_that_may_not_leave_is_refused_where_the_replay_is_still_to_run(server, rules):
    with LoopGrid(endpoint=server.api) as grid:
        decision_id = grid.record_decision(decision_type="charge", input={"mail": "x"})["decision_id"]

        with pytest.raises(errors.Invalid, match=r"overrides.input.mail holds what the redaction rules"):
            grid.create_replay(decision_id, overrides={"input": {"mail": "ada@example.com"}})
