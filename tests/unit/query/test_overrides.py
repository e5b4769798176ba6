"""Overrides: what is refused, and what a merge makes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from loopgrid_query.errors import Invalid
from loopgrid_query.replay import overrides

DECISION: dict[str, Any] = {
    "input": {"message": "I was charged twice", "tone": "kind"},
    "prompt": {
        "name": "support",
        "version": "1",
        "template": "Hello {message}",
        "variables": {"message": "x"},
    },
    "model": {
        "provider": "openai",
        "name": "gpt-4",
        "response_name": "gpt-4-0613",
        "parameters": {"temperature": 0.2, "seed": 1},
    },
    "function": "app.reply",
}


@pytest.mark.parametrize(
    ("given", "field", "suggestion"),
    [
        ({"prompts": {}}, "overrides.prompts", "prompt"),
        ({"prompt": {"templates": "x"}}, "overrides.prompt.templates", "template"),
        ({"model": {"names": "x"}}, "overrides.model.names", "name"),
        ({"input": {"messages": "x"}}, "overrides.input.messages", "message"),
        ({"model": {"temperature": 0.1}}, "overrides.model.temperature", None),
        ({"prompt": "support_v2"}, "overrides.prompt", None),
        ({"prompt": {"version": 2}}, "overrides.prompt.version", None),
        ({"prompt": {"variables": {"message": 3}}}, "overrides.prompt.variables.message", None),
        ({"model": {"parameters": []}}, "overrides.model.parameters", None),
        ({"model": {"name": None}}, "overrides.model.name", None),
    ],
)
def test_an_override_that_nothing_can_carry_out_is_named_with_the_nearest_that_exists(
    given, field, suggestion
):
    with pytest.raises(Invalid) as refused:
        overrides.check(given, DECISION)

    (fault,) = refused.value.errors
    assert fault.field == field
    assert fault.suggestion == suggestion


def test_all_faults_are_named_at_once():
    with pytest.raises(Invalid) as refused:
        overrides.check({"prompt": {"x": 1}, "modl": {}}, DECISION)

    assert [fault.field for fault in refused.value.errors] == ["overrides.prompt.x", "overrides.modl"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"prompt": {"template": "Hi", "version": "2", "name": "support", "variables": {"message": "y"}}},
        {"model": {"provider": "x", "name": "y", "parameters": {"top_p": 1}}},
        {"input": {"tone": "curt"}},
    ],
)
def test_overrides_of_the_grammar_pass(given):
    overrides.check(given, DECISION)


def test_a_decision_without_a_function_may_get_arguments_it_did_not_have():
    overrides.check({"input": {"context": "vip"}}, {**DECISION, "function": None})


def test_an_input_of_messages_has_no_arguments_to_override():
    with pytest.raises(Invalid, match="no named arguments"):
        overrides.check({"input": {"a": 1}}, {**DECISION, "input": [{"role": "user"}]})


def test_without_overrides_everything_asked_for_stays_and_what_answered_is_gone():
    merged = overrides.merge(DECISION, {})

    assert merged == {
        "input": DECISION["input"],
        "prompt": DECISION["prompt"],
        "model": {"provider": "openai", "name": "gpt-4", "parameters": {"temperature": 0.2, "seed": 1}},
    }


def test_objects_merge_member_by_member():
    merged = overrides.merge(
        DECISION, {"model": {"parameters": {"temperature": 0.9}}, "input": {"tone": "curt"}}
    )

    assert merged["model"]["parameters"] == {"temperature": 0.9, "seed": 1}
    assert merged["input"] == {"message": "I was charged twice", "tone": "curt"}


def test_another_template_is_no_longer_the_recorded_version():
    prompt = overrides.merge(DECISION, {"prompt": {"template": "Hi {message}"}})["prompt"]

    assert prompt == {"name": "support", "template": "Hi {message}", "variables": {"message": "x"}}


def test_another_version_has_not_the_recorded_template():
    prompt = overrides.merge(DECISION, {"prompt": {"version": "2"}})["prompt"]

    assert prompt == {"name": "support", "version": "2", "variables": {"message": "x"}}


def test_merging_leaves_the_decision_as_it_is():
    overrides.merge(DECISION, {"model": {"parameters": {"temperature": 0.9}}})

    assert DECISION["model"]["parameters"] == {"temperature": 0.2, "seed": 1}


def test_an_absent_input_stays_absent():
    assert "input" not in overrides.merge({**DECISION, "input": None}, {})


SEEN = [
    overrides.Version("1", ("Hello {message}",)),
    overrides.Version("2", ("Hi {message}",)),
    overrides.Version("3", ("Dear {message}", "Dearest {message}")),
    overrides.Version("4", ()),
]


def filled(prompt: dict[str, Any], seen=SEEN, names=()) -> dict[str, Any]:
    """The prompt overrides as a replay of ``DECISION`` gets them."""
    given = {"prompt": prompt, "input": {"tone": "curt"}}
    named = overrides.named_prompt(given, DECISION)
    if named is None:
        return prompt
    found = overrides.with_template(given, *named, seen, names)
    assert found["input"] == given["input"]
    return dict(found["prompt"])


@pytest.mark.parametrize(
    ("given", "template"),
    [
        ({"version": "2"}, "Hi {message}"),
        ({"name": "support", "version": "2"}, "Hi {message}"),
        ({"name": "support"}, "Hello {message}"),
    ],
)
def test_a_prompt_that_is_named_gets_its_template_from_the_record(given, template):
    assert filled(given) == {**given, "template": template}


@pytest.mark.parametrize("given", [{}, {"variables": {"message": "y"}}, {"version": "9", "template": "Yo"}])
def test_a_prompt_that_is_not_named_or_hands_in_its_text_is_left_as_it_is(given):
    assert filled(given) == given


@pytest.mark.parametrize(
    ("given", "field", "said", "suggestion"),
    [
        (
            {"version": "9"},
            "version",
            "version '9', is on record nowhere; versions with a template: 1, 2",
            None,
        ),
        ({"version": "22"}, "version", "versions with a template: 1, 2", "2"),
        ({"version": "4"}, "version", "version '4', is on record without its whole template", None),
        ({"version": "3"}, "version", "has had 2 texts", None),
        ({"name": "other"}, "version", "prompt 'other', no version, is on record nowhere", None),
    ],
)
def test_a_version_without_one_template_on_record_is_refused_with_those_that_exist(
    given, field, said, suggestion
):
    with pytest.raises(Invalid, match=re.escape(said)) as refused:
        filled(given)

    (fault,) = refused.value.errors
    assert (fault.field, fault.suggestion) == (f"overrides.prompt.{field}", suggestion)


def test_many_versions_are_counted_and_the_newest_named():
    many = [overrides.Version(f"v{number}", ("text",)) for number in range(30)]

    with pytest.raises(Invalid, match=r"the last 20 of 30, v10, v11, .* v29"):
        filled({"version": "9"}, many)


def test_a_prompt_name_that_is_not_on_record_is_refused_with_the_nearest():
    with pytest.raises(Invalid, match="did you mean 'support'") as refused:
        filled({"name": "suport", "version": "1"}, [], ["billing", "support"])

    assert refused.value.errors[0].suggestion == "support"


def test_a_version_of_a_prompt_without_a_name_is_refused():
    unnamed = {**DECISION, "prompt": dict.fromkeys(DECISION["prompt"])}
    given = {"prompt": {"version": "2"}}
    named = overrides.named_prompt(given, unnamed)

    assert named == (None, "2")
    with pytest.raises(Invalid, match="records no prompt name"):
        overrides.with_template(given, *named, [], [])


def test_a_prompt_of_another_name_does_not_inherit_the_version():
    merged = overrides.merge(DECISION, {"prompt": {"name": "billing", "template": "Pay {message}"}})

    assert merged["prompt"] == {
        "name": "billing",
        "template": "Pay {message}",
        "variables": {"message": "x"},
    }
