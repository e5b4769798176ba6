"""The side-by-side view of decision, replay and correction."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from loopgrid_query.cli.comparison import render, rows_of

WRONG = {"action": "check_account", "response": "Your account looks fine."}
RIGHT = {"action": "refund", "response": "Refund initiated."}


def side(output: Any, version: str) -> dict[str, Any]:
    return {
        "input": {"message": "charged twice"},
        "output": output,
        "prompt": {"name": "support", "version": version},
        "model": {"provider": "example", "name": "m"},
    }


def comparison(result: Any = RIGHT, truth: Any = RIGHT, verdict: str = "fixed") -> dict[str, Any]:
    return {
        "decision": side(WRONG, "1"),
        "replay": {"status": "pending" if result is None else "completed"},
        "result": side(result, "2") if result is not None else None,
        "ground_truth": {"output": truth} if truth is not None else None,
        "verdict": verdict,
        "why": "the replay says what the correction says.",
    }


def text(compared: dict[str, Any], *, colour: bool = False, width: int = 100) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        legacy_windows=False,
    )
    console.print(render(compared, console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_member_of_the_output_has_a_line_of_its_own():
    assert [row.name for row in rows_of(comparison())] == [
        "prompt",
        "model",
        "output.action",
        "output.response",
    ]


def test_lines_that_differ_are_marked_without_colour_too():
    marked = [line for line in text(comparison()).splitlines() if "≠" in line]
    assert len(marked) == 3


def test_what_matches_the_correction_is_green_and_what_does_not_is_red():
    shown = text(comparison(), colour=True)
    assert "\x1b[31mcheck_account" in shown
    assert shown.count("\x1b[32mrefund") == 2


def test_without_a_correction_what_changed_is_yellow():
    shown = text(comparison(truth=None, verdict="changed"), colour=True)
    assert "\x1b[33mrefund" in shown
    assert "\x1b[31m" not in shown


def test_a_replay_that_ran_nothing_shows_an_empty_column():
    shown = text(comparison(result=None, verdict="not_comparable"))
    assert "≠" not in shown
    assert "not_comparable" in shown


def test_a_replay_that_failed_says_once_that_nothing_ran_to_an_end():
    compared = comparison(truth=None, verdict="not_comparable")
    compared["replay"]["status"], compared["result"]["output"] = "failed", None
    shown = text(compared)
    assert [row.name for row in rows_of(compared)][2:] == ["output.action", "output.response"]
    assert shown.count("(nothing ran to an") == 1
    assert "null" not in shown


def test_outputs_of_different_shapes_stand_in_lines_of_their_own():
    names = [row.name for row in rows_of(comparison(result="just text"))]
    assert names[2:] == ["output.action", "output.response", "output"]


def test_only_the_arguments_that_were_overridden_are_shown():
    compared = comparison()
    compared["decision"]["input"] = {"message": "charged twice", "channel": "mail"}
    compared["result"]["input"] = {"message": "something else", "channel": "mail"}
    (row,) = [row for row in rows_of(compared) if row.name.startswith("input")]
    assert (row.name, row.decision, row.replay) == ("input.message", "charged twice", "something else")


def test_where_lines_are_too_many_those_that_differ_are_shown():
    compared = comparison(truth=None, verdict="changed")
    many = {f"member_{number}": number for number in range(40)}
    compared["decision"]["output"], compared["result"]["output"] = many, {**many, "member_39": "moved"}
    shown = text(compared)

    assert "moved" in shown
    assert "30 more lines" in shown
    assert len(shown.splitlines()) <= 40
