"""Prompt and Model: frozen values that a decision records and a replay can replace."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

import loopgrid
from loopgrid import Model, Prompt
from loopgrid.prompt import registered_prompt

SUPPORT = Prompt("support", version="1", template="Customer says: {message}")


def test_render_fills_in_the_template():
    prompt = Prompt("price", template="{name}: {price:.2f} {{literal}} {note!r}")

    assert prompt.render(name="tea", price=3, note="hot") == "tea: 3.00 {literal} 'hot'"
    assert prompt.placeholders == ("name", "price", "note")


def test_a_placeholder_inside_a_format_specification_counts():
    assert Prompt("pad", template="{text:>{width}}").render(text="x", width=3) == "  x"


def test_a_missing_variable_is_a_key_error_that_names_it_and_what_was_given():
    with pytest.raises(
        KeyError, match=r"prompt 'support' \(version 1\) needs message; render\(\) was given text"
    ):
        SUPPORT.render(text="hi")


@pytest.mark.parametrize("template", ["{", "}", "{}", "{0}", "{user.name}", "{rows[0]}", "{a-b}"])
def test_a_template_with_anything_but_plain_names_is_refused(template):
    with pytest.raises(ValueError, match="template of prompt 'bad'"):
        Prompt("bad", template=template)


def test_a_template_cannot_reach_into_what_it_is_given():
    recorded: Any = Prompt.recorded
    with pytest.raises(ValueError, match="plain name"):
        recorded("spy", template="{message.__class__.__mro__}")


@pytest.mark.parametrize("fields", [{"name": 1}, {"version": 2}, {"template": None}])
def test_a_prompt_is_made_of_text(fields):
    values: dict[str, Any] = {"name": "p", "version": "1", "template": "t", **fields}
    with pytest.raises(TypeError, match=f"{next(iter(fields))} of a Prompt is text"):
        Prompt(values.pop("name"), **values)


@pytest.mark.parametrize("value", [SUPPORT, Model("openai", "gpt-4o", temperature=0.2, stop=["a"])])
def test_values_are_frozen_hashable_and_survive_copying(value):
    with pytest.raises(AttributeError, match="make a new one"):
        value.name = "other"
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del value.name
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301 - our own bytes
        assert other == value
        assert hash(other) == hash(value)
    assert value != "something else"


def test_representations_can_be_read_back():
    model = Model("openai", "gpt-4o", temperature=0.2)

    assert eval(repr(model), {"Model": Model}) == model  # noqa: S307 - our own text
    assert eval(repr(SUPPORT), {"Prompt": Prompt}) == SUPPORT  # noqa: S307


def test_models_with_other_parameters_are_other_models():
    assert Model("openai", "gpt-4o", temperature=0.2) != Model("openai", "gpt-4o", temperature=0.3)
    with pytest.raises(TypeError):
        Model("openai", "gpt-4o", temperature=0.2).parameters["temperature"] = 1  # type: ignore[index]


def test_parameters_named_by_opentelemetry_and_others_are_recorded_apart(decided):
    @loopgrid.decision("ask")
    def ask(model: Model) -> None: ...

    ask(
        Model(
            "openai",
            "gpt-4o",
            temperature=0.2,
            seed=7,
            stop_sequences=["\n"],
            top_p=None,
            logit_bias={"5": 1},
        )
    )

    span = decided()
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert span.attributes["gen_ai.request.model"] == "gpt-4o"
    assert span.attributes["gen_ai.request.temperature"] == 0.2
    assert span.attributes["gen_ai.request.seed"] == 7
    assert span.attributes["gen_ai.request.stop_sequences"] == ["\n"]
    assert json.loads(span.attributes["loopgrid.model.parameters"]) == {"top_p": None, "logit_bias": {"5": 1}}
    assert span.attributes["loopgrid.model.argument"] == "model"
    assert span.input == {}


def test_a_prompt_argument_fills_the_prompt_fields_and_render_its_variables(decided):
    @loopgrid.decision("ask")
    def ask(message: str, *, prompt: Prompt = SUPPORT) -> str:
        return prompt.render(message=message, tone=3)

    assert ask("hi") == "Customer says: hi"

    span = decided()
    assert span.attributes["gen_ai.prompt.name"] == "support"
    assert span.attributes["gen_ai.prompt.version"] == "1"
    assert span.attributes["loopgrid.prompt.template"] == "Customer says: {message}"
    assert span.attributes["loopgrid.prompt.argument"] == "prompt"
    assert span.attributes["gen_ai.prompt.variable.message"] == "hi"
    assert span.attributes["gen_ai.prompt.variable.tone"] == "3"
    assert span.input == {"message": "hi"}


def test_a_prompt_that_is_no_argument_is_recorded_when_it_is_rendered(decided):
    @loopgrid.decision("ask")
    def ask() -> str:
        return SUPPORT.render(message="hi")

    ask()

    span = decided()
    assert span.attributes["gen_ai.prompt.name"] == "support"
    assert "loopgrid.prompt.argument" not in span.attributes


def test_a_decision_has_one_prompt_and_says_which_others_it_rendered(decided):
    system = Prompt("system", template="Be {tone}.")

    @loopgrid.decision("ask")
    def ask(prompt: Prompt) -> None:
        system.render(tone="kind")
        prompt.render(message="one")
        prompt.render(message="two")

    ask(SUPPORT)

    span = decided()
    assert span.attributes["gen_ai.prompt.name"] == "support"
    assert span.attributes["gen_ai.prompt.variable.message"] == "two"
    assert span.losses == ["prompt.system:also_rendered", "prompt.variables:rendered_again"]


def test_a_second_prompt_argument_is_part_of_the_input(decided):
    @loopgrid.decision("ask")
    def ask(first: Prompt, second: Prompt) -> None: ...

    ask(SUPPORT, Prompt("other", template="x"))

    span = decided()
    assert span.attributes["loopgrid.prompt.argument"] == "first"
    assert span.input == {"second": {"name": "other", "version": None, "template": "x"}}


def test_a_variable_with_a_hostile_text_costs_the_variables_and_not_the_render(recording):
    class Hostile:
        def __str__(self):
            raise RuntimeError("no text")

        def __format__(self, specification):
            return "fine"

    @loopgrid.decision("ask")
    def ask() -> str:
        return SUPPORT.render(message=Hostile())

    assert ask() == "Customer says: fine"
    assert loopgrid.counters()["fact_failed"] == 1


def test_a_version_defined_again_with_another_template_is_said_aloud(caplog):
    Prompt("changing", version="1", template="a")
    Prompt("changing", version="1", template="b")

    assert "defined again with another template" in caplog.text
    found = registered_prompt("changing", "1")
    assert found is not None
    assert found.template == "b"
