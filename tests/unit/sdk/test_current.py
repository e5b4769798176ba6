"""What a decision says about itself while it is open."""

from __future__ import annotations

import threading
from typing import Any

import loopgrid
from loopgrid.config import CaptureLimits
from tests.unit.sdk.conftest import QUICK


def stating(statement):
    """Make one decision in which the statement is made."""

    @loopgrid.decision("state")
    def state() -> None:
        statement(loopgrid.current())

    state()


def test_stated_facts_arrive_under_their_opentelemetry_names(decided):
    def statement(now: loopgrid.Decision) -> None:
        now.usage(input_tokens=10, output_tokens=2, cache_read_tokens=4, reasoning_tokens=1)
        now.model(provider="openai", name="gpt-4o", response_name="gpt-4o-2024", response_id="r1")
        now.finish_reasons("stop", "length")
        now.session("s-1")
        now.user("u-1")
        now.agent("triage")
        now.tags("beta")
        now.tags("vip", "beta")
        now.metadata(ticket=7, ratio=0.5, urgent=True, nothing=None, nested={"a": [1, "b"]})

    stating(statement)

    attributes = decided().attributes
    expected = {
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024",
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "session.id": "s-1",
        "user.id": "u-1",
        "gen_ai.agent.name": "triage",
        "loopgrid.tags": ["beta", "vip"],
        "loopgrid.metadata.ticket": 7,
        "loopgrid.metadata.ratio": 0.5,
        "loopgrid.metadata.urgent": True,
        "loopgrid.metadata.nothing": None,
        "loopgrid.metadata.nested": {"a": [1, "b"]},
    }
    assert {key: attributes[key] for key in expected} == expected


def test_none_says_nothing(decided):
    stating(lambda now: (now.usage(input_tokens=None), now.model(provider=None)))

    span = decided()
    assert not [key for key in span.attributes if key.startswith("gen_ai.")]
    assert span.losses == []


def test_a_fact_that_cannot_be_one_is_named_counted_and_does_not_raise(decided):
    def statement(now: Any) -> None:
        now.usage(input_tokens="many", output_tokens=-1, reasoning_tokens=2**70)
        now.user(object())

    stating(statement)

    assert decided().losses == [
        "gen_ai.usage.input_tokens:refused:str",
        "gen_ai.usage.output_tokens:refused:int",
        "gen_ai.usage.reasoning.output_tokens:refused:int",
        "user.id:refused:object",
    ]
    assert loopgrid.counters()["fact_failed"] == 4


def test_outside_a_decision_nothing_happens():
    now: Any = loopgrid.current()

    now.usage(input_tokens=1)
    now.metadata(a=object())
    now.user(object())

    assert now.decision_id is None
    assert loopgrid.counters() == {}


def test_a_fact_stated_after_the_end_is_counted_and_changes_nothing(decided, caplog):
    kept: list[loopgrid.Decision] = []
    stating(kept.append)

    kept[0].tags("late")

    assert "loopgrid.tags" not in decided().attributes
    assert loopgrid.counters()["fact_late"] == 1


def test_the_decision_knows_its_id_while_it_is_open(decided):
    ids = []
    stating(lambda now: ids.append(now.decision_id))

    assert ids == [decided().decision_id]


def test_facts_belong_to_the_innermost_decision(recording):
    @loopgrid.decision("inner")
    def inner():
        loopgrid.current().tags("inside")

    @loopgrid.decision("outer")
    def outer():
        inner()
        loopgrid.current().tags("outside")

    outer()

    assert loopgrid.flush()
    assert [span.attributes["loopgrid.tags"] for span in recording.spans] == [["inside"], ["outside"]]


def test_a_thread_of_its_own_has_no_decision(recording):
    seen = []

    def statement(_: object) -> None:
        thread = threading.Thread(target=lambda: seen.append(loopgrid.current().decision_id))
        thread.start()
        thread.join()

    stating(statement)

    assert seen == [None]


def test_too_many_facts_are_left_out_by_name_and_evict_nothing(receiver):
    limits = CaptureLimits(max_facts=2, max_text_bytes=8)
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK, capture=limits)

    def statement(now: loopgrid.Decision) -> None:
        now.metadata(a=1, b=2, c=3)
        now.metadata(a=4)
        now.tags("x", "y", "z")
        now.user("0123456789")

    stating(statement)

    assert loopgrid.flush()
    (span,) = receiver.spans
    assert span.attributes["loopgrid.metadata.a"] == 4
    assert "loopgrid.metadata.c" not in span.attributes
    assert span.attributes["loopgrid.tags"] == ["x", "y"]
    assert span.attributes["user.id"] == "01234567"
    losses = [loss.split(":sha256=")[0] for loss in span.losses]
    assert losses == [
        "loopgrid.metadata.c:facts_omitted",
        "loopgrid.tags:items_omitted:1",
        "user.id:truncated:10",
    ]
    assert span.dropped_attributes == 0


def test_text_that_is_not_unicode_is_recorded_with_a_replacement(decided):
    def statement(now: loopgrid.Decision) -> None:
        now.user("a\ud800b")
        now.metadata(**{"k\ud800": "v\udfff"})

    stating(statement)

    span = decided()
    assert span.attributes["user.id"] == "a?b"
    assert span.attributes["loopgrid.metadata.k?"] == "v?"
    assert "user.id:replaced_characters" in span.losses
