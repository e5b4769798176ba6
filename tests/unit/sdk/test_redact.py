"""What may not leave does not leave, and the record says what is missing."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from loopgrid import Redaction, errors, request
from loopgrid.calls import Calls
from loopgrid.redact import Redactor
from loopgrid.redaction import API_KEY, CREDIT_CARD, EMAIL, Pattern, is_card_number
from tests.support.spans import attributes, span

CARD = "4111 1111 1111 1111"


def redacted(given_span: Any, **rules: Any) -> tuple[int, dict[str, AnyValue], list[str]]:
    number = Redactor(Redaction(**rules)).span(given_span)
    values = {attribute.key: attribute.value for attribute in given_span.attributes}
    losses = values.pop("loopgrid.capture.lossiness", AnyValue())
    return number, values, [entry.string_value for entry in losses.array_value.values]


def test_a_key_is_found_in_attributes_maps_and_json_whatever_its_spelling():
    number, values, losses = redacted(
        span(
            attributes={
                "loopgrid.decision.input": '{"user":{"Api-Key":"s3cret","name":"Ada"},"n":1}',
                "loopgrid.metadata.api_key": "s3cret",
                "their.map": {"apiKey": {"deep": "s3cret"}, "plain": "kept"},
            }
        ),
        keys=["api_key"],
    )

    assert number == 3
    assert json.loads(values["loopgrid.decision.input"].string_value) == {
        "user": {"Api-Key": "[redacted]", "name": "Ada"},
        "n": 1,
    }
    assert values["loopgrid.metadata.api_key"].string_value == "[redacted]"
    assert [m.value.string_value for m in values["their.map"].kvlist_value.values] == ["[redacted]", "kept"]
    assert losses == [
        "input.user.Api-Key:redacted",
        "loopgrid.metadata.api_key:redacted",
        "their.map.apiKey:redacted",
    ]


def test_a_name_that_is_given_is_meant_only_where_it_is_named_in_full():
    given_span = {"service.name": "desk", "code.function.name": "f", "gen_ai.prompt.variable.name": "Ada"}
    _, values, _ = redacted(span(attributes=given_span), keys=["name"])
    assert [value.string_value for value in values.values()] == ["desk", "f", "[redacted]"]

    _, values, _ = redacted(span(attributes=given_span), keys=["service.name"])
    assert [value.string_value for value in values.values()] == ["[redacted]", "f", "Ada"]


def test_a_pattern_is_found_everywhere_a_span_can_hold_text():
    given_span = span(name="mail ada@example.com", attributes={"to ada@example.com": "x"})
    given_span.status.message = "no route to ada@example.com"
    event = given_span.events.add(name="sent to ada@example.com")
    event.attributes.extend(attributes({"exception.message": "ada@example.com"}))
    given_span.links.add().attributes.extend(attributes({"a": ["ada@example.com"]}))
    given_span.attributes.extend(
        attributes(
            {
                "list": [{"deep": "ada@example.com"}],
                "json": '{"ada@example.com":"a\\u0064a@example.com"}',
                "json in json": json.dumps({"arguments": json.dumps({"mail": "ada@example.com"})}),
                "bytes": b"\x00ada@example.com",
                "loopgrid.decision.input": json.dumps(
                    {"$bytes": base64.b64encode(b"ada@example.com").decode()}
                ),
                "loopgrid.capture.lossiness": ["input.ada@example.com:repr:Thing"],
            }
        )
    )

    number, _, _ = redacted(given_span, patterns=[EMAIL])

    assert number >= 10
    assert b"example.com" not in given_span.SerializeToString()
    assert base64.b64encode(b"ada@example.com") not in given_span.SerializeToString()


def test_a_number_that_is_a_card_number_does_not_leave_either():
    _, values, _ = redacted(
        span(attributes={"card": 4111111111111111, "json": '{"c":4111111111111111,"n":12}', "n": 7}),
        patterns=[CREDIT_CARD],
    )

    assert values["card"].string_value == "[redacted]"
    assert json.loads(values["json"].string_value) == {"c": "[redacted]", "n": 12}
    assert values["n"].int_value == 7


@pytest.mark.parametrize(
    ("text", "is_one"),
    [(CARD, True), ("4111-1111-1111-1112", False), ("378282246310005", True), ("1234567890", False)],
)
def test_a_card_number_is_known_by_its_check_digit(text, is_one):
    assert is_card_number(text) is is_one
    _, values, _ = redacted(span(attributes={"t": f"card {text}."}), patterns=[CREDIT_CARD])
    assert values["t"].string_value == ("card [redacted: credit card]." if is_one else f"card {text}.")


@pytest.mark.parametrize(
    "secret", ["sk-proj-abcdefghijklmnopqrst", "AKIAABCDEFGHIJKLMNOP", "ghp_" + "a" * 36, "hf_" + "a" * 30]
)
def test_the_forms_of_known_api_keys_are_found(secret):
    _, values, _ = redacted(span(attributes={"t": f"use {secret} now"}), patterns=[API_KEY])

    assert values["t"].string_value == "use [redacted: api key] now"


def test_a_callback_decides_about_what_is_left_by_key():
    _, values, losses = redacted(
        span(attributes={"loopgrid.decision.input": '{"name":"Ada","age":36}', "n": 3}),
        callback=lambda key, value: value[0] + "…" if key == "name" else value,
    )

    assert json.loads(values["loopgrid.decision.input"].string_value) == {"name": "A…", "age": 36}
    assert (values["n"].int_value, losses) == (3, ["input.name:redacted"])


def test_a_callback_that_raises_or_answers_with_something_else_costs_the_value_and_nothing_more():
    def callback(key: str, value: object) -> object:
        if key == "bad":
            raise KeyError(value)
        return object() if key == "odd" else value

    number, values, losses = redacted(
        span(attributes={"bad": "secret", "odd": "secret", "fine": "kept"}), callback=callback
    )

    assert number == 2
    assert values["bad"].string_value == "[redacted: failed, KeyError]"
    assert values["fine"].string_value == "kept"
    assert losses == ["bad:redaction_failed:KeyError", "odd:redaction_failed:returned_object"]


def test_a_check_that_raises_takes_out_what_it_could_not_judge():
    def check(text: str) -> bool:
        raise ValueError(text)

    _, values, _ = redacted(
        span(attributes={"t": "id 123"}), patterns=[Pattern("id", re.compile(r"\d+"), check)]
    )

    assert values["t"].string_value == "id [redacted: id]"


def test_what_there_was_no_time_for_does_not_leave():
    _, values, losses = redacted(
        span(attributes={"a": "secret", "b": ["secret"]}), patterns=[EMAIL], max_span_s=-1.0
    )

    assert b"secret" not in b"".join(value.SerializeToString() for value in values.values())
    assert "a:redaction_failed:time" in losses


def test_json_that_nests_too_deeply_does_not_leave():
    text: Any = "s3cret"
    for _ in range(8):
        text = json.dumps({"t": text})
    _, values, losses = redacted(span(attributes={"a": text, "b": "[" * 100_000}), keys=["password"])

    assert "s3cret" not in values["a"].string_value
    assert "b:redaction_failed:nesting" in losses


def test_text_that_was_json_before_it_was_cut_off_is_looked_at_by_key():
    _, values, _ = redacted(
        span(
            attributes={"a": '{"user":"Ada","password": "s3cr\\"et","x":1', "b": '{"password":{"a":"s3cret"'}
        ),
        keys=["password"],
    )

    assert values["a"].string_value == '{"user":"Ada","password":"[redacted]","x":1'
    assert "s3cret" not in values["b"].string_value


def test_a_member_that_a_later_one_of_the_same_name_hides_does_not_leave():
    _, values, _ = redacted(span(attributes={"a": '{"t":"ada@example.com","t":"x"}'}), patterns=[EMAIL])

    assert values["a"].string_value == '{"t":"x"}'


def test_what_nothing_is_taken_out_of_stays_as_it_was_to_the_last_byte():
    before = span(attributes={"a": '{ "x" : 1.0e5, "y":[1,2] }', "b": "[draft] hello", "c": 1.5})
    after = span(attributes={"a": '{ "x" : 1.0e5, "y":[1,2] }', "b": "[draft] hello", "c": 1.5})

    number = Redactor(Redaction(keys=["password"], patterns=[EMAIL, CREDIT_CARD])).span(after)

    assert (number, after) == (0, before)


def test_what_the_ledger_counts_and_links_by_is_not_touched():
    kept = {"loopgrid.producer.id": "ada@example.com", "loopgrid.producer.seq": 4111111111111111}
    _, values, _ = redacted(span(attributes=kept), patterns=[EMAIL, CREDIT_CARD], keys=["id", "seq"])

    assert values["loopgrid.producer.id"].string_value == "ada@example.com"
    assert values["loopgrid.producer.seq"].int_value == 4111111111111111


@pytest.mark.parametrize(
    ("rules", "advice"),
    [
        ({"keys": "password"}, r"keys of a Redaction is a list: write keys=\['password'\]"),
        ({"keys": [3]}, r"write keys=\[\"password\", \"iban\"\]"),
        ({"patterns": ["("]}, r"patterns\[0\] of a Redaction is no regular expression .* re.escape"),
        ({"patterns": [3]}, "write a regular expression as text"),
        ({"callback": "mask"}, "write callback=lambda key, value: value"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_what_to_write_instead(rules, advice):
    with pytest.raises(errors.Misconfigured, match=advice):
        Redaction(**rules)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.just("ada@example.com"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_no_shape_of_json_lets_an_address_through_and_the_rest_is_json_still(value):
    given_span = span(
        attributes={"loopgrid.decision.input": json.dumps({"v": value, "w": json.dumps(value)})}
    )

    Redactor(Redaction(patterns=[EMAIL])).span(given_span)

    text = given_span.attributes[0].value.string_value
    assert "ada@example.com" not in text
    json.loads(text)


def test_a_body_of_the_api_is_redacted_but_for_its_ids_its_names_and_who_says_it():
    redactor = Redactor(Redaction(keys=["iban", "name", "reason"], patterns=[EMAIL]))
    body = {
        "decision_id": "a@b.example",
        "decision_type": "a@b.example",
        "corrected_by": "ada@example.com",
        "reason": "wrote to bob@example.com",
        "correction": {"iban": "DE02", "to": "bob@example.com", "text": '{"iban":"DE02"}'},
        "model": {"name": "gpt-4o", "parameters": {"name": "x"}},
        "usage": {"input_tokens": 3},
    }

    written, taken = redactor.body(body)

    assert written == {
        "decision_id": "a@b.example",
        "decision_type": "a@b.example",
        "corrected_by": "ada@example.com",
        "reason": "wrote to [redacted: email]",
        "correction": {"iban": "[redacted]", "to": "[redacted: email]", "text": '{"iban":"[redacted]"}'},
        "model": {"name": "gpt-4o", "parameters": {"name": "[redacted]"}},
        "usage": {"input_tokens": 3},
    }
    assert "correction.iban:redacted" in taken
    assert body["reason"] == "wrote to bob@example.com", "the caller's object stays as it is"


def test_who_says_something_is_taken_out_only_where_the_rules_name_it():
    body, taken = Redactor(Redaction(keys=["corrected_by"])).body({"corrected_by": "ada"})

    assert (body, list(taken)) == ({"corrected_by": "[redacted]"}, ["corrected_by:redacted"])


def test_a_value_of_a_body_that_cannot_be_looked_at_does_not_leave():
    redactor = Redactor(Redaction(keys=["x"], max_span_s=0.0))

    body, _ = redactor.body({"reason": "secret", "correction": {"a": ["secret"]}})

    assert "secret" not in str(body)


def test_a_filter_of_a_review_queue_that_may_not_leave_is_refused_and_the_rest_goes_redacted():
    rules = Redaction(patterns=[EMAIL])
    calls = Calls(None)

    with pytest.raises(errors.Invalid, match=r"filters\.user_id holds what the redaction rules take out"):
        request.redacted(calls.create_review("mine", filters={"user_id": "ada@example.com"}), rules)
    answer = calls.answer_review(
        "rev_1",
        "7" * 32 + "-" + "7" * 16,
        "incorrect",
        reason="ada@example.com wrote",
        reviewer="bob@example.com",
    )
    body = request.redacted(answer, rules).body
    assert body is not None
    assert "ada@" not in body["reason"]
    assert (body["verdict"], body["reviewer"]) == ("incorrect", "bob@example.com")
