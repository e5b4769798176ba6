"""`loopgrid.testing`: what a user's own test sees of the decisions it causes."""

from __future__ import annotations

import pytest

import loopgrid
from loopgrid import Model, Prompt
from loopgrid.pytest_plugin import loopgrid_decisions
from loopgrid.schema import FIELDS
from loopgrid.testing import _FROM_LEDGER, Recorded, recorded

__all__ = ["loopgrid_decisions"]

SUPPORT = Prompt("support", version="1", template="Help {name}")


@loopgrid.tool(effect="write")
def pay(amount: int) -> str:
    return f"paid {amount}"


@loopgrid.decision("refund")
def refund(name: str, *, prompt: Prompt = SUPPORT, model: Model = Model("openai", "m", temperature=0)) -> str:
    now = loopgrid.current()
    prompt.render(name=name)
    now.key("order", 7)
    now.tags("a")
    now.usage(input_tokens=3)
    return pay(5)


def test_a_decision_has_the_shape_of_the_api_and_its_steps(loopgrid_decisions: Recorded):
    refund("Ada")

    decision = loopgrid_decisions.only("refund")
    assert (decision.input, decision.output, decision.status) == ({"name": "Ada"}, "paid 5", "ok")
    assert decision["prompt"] == {
        "name": "support",
        "version": "1",
        "template": "Help {name}",
        "variables": {"name": "Ada"},
    }
    assert (decision.model.name, decision.model.parameters) == ("m", {"temperature": 0})
    assert (decision.usage.input_tokens, decision.tags, decision.metadata) == (3, ["a"], {"order": "7"})
    (step,) = decision.steps
    assert (step.name, step.effect, step.input, step.output) == ("pay", "write", {"amount": 5}, "paid 5")
    tops = {field.path.partition(".")[0] for field in FIELDS if field.column not in _FROM_LEDGER}
    assert set(decision) == tops | {"steps", "attributes"}


def test_ids_and_times_are_the_same_in_every_run():
    def run() -> list[tuple[str, str, float | None]]:
        with recorded() as decisions:
            refund("Ada")
            refund("Bob")
        return [(one.decision_id, one.started_at, one.duration_ms) for one in decisions]

    assert (
        run()
        == run()
        == [
            (f"{1:032x}-{1:016x}", "2026-01-01T00:00:00+00:00", 3.0),
            (f"{2:032x}-{3:016x}", "2026-01-01T00:00:00.004000+00:00", 3.0),
        ]
    )


def test_a_clock_of_the_tests_own_is_used():
    with recorded(clock_ns=lambda: 10**18) as decisions:
        refund("Ada")

    assert (decisions[0].started_at, decisions[0].duration_ms) == ("2001-09-09T01:46:40+00:00", 0.0)


def test_nothing_is_sent_and_recording_goes_on_as_before_afterwards(recording):
    with recorded() as decisions:
        loopgrid.configure(service_name="the program under test")
        refund("Ada")
        assert loopgrid.flush()
    assert recording.spans == []

    refund("Bob")
    assert loopgrid.flush()
    assert len(decisions) == 1
    assert [span.name for span in recording.spans] == ["execute_tool pay", "refund"]


def test_an_expectation_that_fails_says_what_was_recorded(loopgrid_decisions):
    refund("Ada")

    with pytest.raises(
        AssertionError, match=r"one decision of type 'reply', found 0; recorded: \['refund'\]"
    ):
        loopgrid_decisions.only("reply")
    loopgrid_decisions.clear()
    with pytest.raises(AssertionError, match="found 0; recorded: none"):
        loopgrid_decisions.only()


def test_it_does_not_nest(loopgrid_decisions):
    with pytest.raises(RuntimeError, match="leave the block that does so first"), recorded():
        pass


def test_failures_are_shown_as_the_api_shows_them(loopgrid_decisions):
    with pytest.raises(KeyError), loopgrid.decide("fails"):
        raise KeyError("x")

    decision = loopgrid_decisions.only()
    assert (decision.status, decision.error.type, decision.error.message) == ("error", "KeyError", "'x'")
