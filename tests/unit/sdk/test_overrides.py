"""Overrides have a grammar; what they make of a recorded prompt and model is decided purely."""

from __future__ import annotations

from typing import Any

import pytest

from loopgrid import Model, Prompt
from loopgrid.errors import Invalid, NotReplayable
from loopgrid.overrides import Overrides, replaced_model, replaced_prompt

RECORDED = {"name": "support", "version": "1", "template": "one {message}"}
SECOND = Prompt.recorded("support", version="2", template="two {message}")


def find(name: str, version: str | None) -> Prompt:
    if (name, version) == ("support", "2"):
        return SECOND
    raise NotReplayable(f"{name} {version}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"promt": {}}, "overrides have no part 'promt': did you mean 'prompt'?"),
        ({"prompt": {"templte": "x"}}, "overrides['prompt'] has no key 'templte': did you mean 'template'?"),
        ({"model": {"temperature": 1}}, "overrides['model'] has no key 'temperature'"),
        ({"prompt": "x"}, "overrides['prompt'] is a map, not str"),
        ({"prompt": {"template": 3}}, "overrides['prompt']['template'] is text, not int"),
        ({"prompt": {"version": 2}}, "overrides['prompt']['version'] is text, not int"),
        ({"model": {"parameters": [1]}}, "overrides['model']['parameters'] is a map, not list"),
        ([], "overrides is a map, not list"),
    ],
)
def test_a_malformed_override_is_refused_by_name(overrides: Any, said):
    with pytest.raises(Invalid) as refused:
        Overrides.checked(overrides)

    assert refused.value.message.startswith(said)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Prompt.recorded("support", version="1", template="one {message}")),
        ({"version": "2"}, SECOND),
        ({"template": "three"}, Prompt.recorded("support", template="three")),
        ({"template": "three", "version": "3"}, Prompt.recorded("support", version="3", template="three")),
        (
            {"variables": {"message": "x"}},
            Prompt.recorded("support", version="1", template="one {message}", pinned={"message": "x"}),
        ),
        ({"name": "other", "template": "t"}, Prompt.recorded("other", template="t")),
    ],
)
def test_the_prompt_of_a_replay(changes, expected):
    assert replaced_prompt(RECORDED, changes, find) == expected


def test_variables_of_an_override_take_precedence_when_the_prompt_is_rendered():
    prompt = replaced_prompt(RECORDED, {"version": "2", "variables": {"message": "theirs"}}, find)

    assert prompt is not None
    assert prompt.render(message="ours") == "two theirs"


def test_no_recorded_prompt_and_no_override_is_no_prompt():
    assert replaced_prompt({"name": None}, {}, find) is None


@pytest.mark.parametrize(
    ("recorded", "changes", "error"),
    [
        (RECORDED, {"version": "9"}, NotReplayable),
        (RECORDED, {"name": "other"}, NotReplayable),
        ({"name": None}, {"template": "x"}, NotReplayable),
        ({"name": "support", "version": "1", "template": None}, {}, NotReplayable),
        (RECORDED, {"template": "{"}, Invalid),
        (RECORDED, {"variables": {"mesage": "x"}}, Invalid),
    ],
)
def test_a_prompt_that_cannot_be_made_is_refused(recorded, changes, error):
    with pytest.raises(error):
        replaced_prompt(recorded, changes, find)


def test_the_model_of_a_replay_keeps_what_is_not_replaced():
    recorded = {"provider": "openai", "name": "gpt-4o", "parameters": {"temperature": 0.2, "seed": 1}}

    assert replaced_model(recorded, {}) == Model("openai", "gpt-4o", temperature=0.2, seed=1)
    assert replaced_model(recorded, {"name": "gpt-5", "parameters": {"seed": 2}}) == Model(
        "openai", "gpt-5", temperature=0.2, seed=2
    )
    assert replaced_model({}, {}) is None
    with pytest.raises(NotReplayable, match="records no model"):
        replaced_model({}, {"name": "gpt-5"})
