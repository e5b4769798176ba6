"""What holds for every command, of today and of tomorrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from loopgrid_query.cli.app import command_line

WITHOUT_JSON = {
    "demo": "it is a story, told to a person",
    "review": "it is a talk with a person",
    "completion": "it prints a shell's script",
}


def leaves(command: Any, *words: str) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(words), command
        return
    for name, each in below.items():
        yield from leaves(each, *words, name)


COMMANDS = dict(leaves(command_line()))


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_says_what_it_does_with_an_example_of_itself(words):
    command = COMMANDS[words]

    assert (command.help or "").strip()
    assert f"Example: loopgrid {words}" in " ".join((command.epilog or "").split())
    assert all(option.help for option in command.params if option.param_type_name == "option")


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_prints_json_unless_there_is_a_reason(words):
    options = {name for option in COMMANDS[words].params for name in option.opts}

    assert ("--json" in options) != (words in WITHOUT_JSON)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_that_talks_to_a_server_takes_a_profile(words):
    options = {name for option in COMMANDS[words].params for name in option.opts}

    assert ("--profile" in options) == ("--endpoint" in options and words != "profiles add")
