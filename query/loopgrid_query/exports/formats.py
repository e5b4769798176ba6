"""One decision as a row of each format. Pure.

A row function gets the decision as ``source`` reads it (a mapping by column; JSON columns as text) and gives
the row's JSON text, or raises ``Unfit`` with the reason why the decision has no place in the format.

Shapes: OpenAI's guides on supervised fine-tuning and on direct preference optimization, TRL's conversational
preference format, Inspect AI's ``json_dataset``, promptfoo's test cases, and ``configs`` of Hugging Face's
dataset card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from loopgrid.schema import FIELDS
from loopgrid_query.exports import messages
from loopgrid_query.exports.messages import Message, Unfit
from loopgrid_query.instants import format_instant

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        row: the text of a row, without a line's end; None where tables are written as they are.
        file: name of its files, with ``{split}`` where the split's name (with a hyphen before it) stands.
        meaning: one line for people.
    """

    row: Callable[[Row], bytes] | None
    file: str
    meaning: str


def jsonl(row: Row) -> bytes:
    """The decision as the API gives it, with its ground truth and its marks; content as it is stored."""
    record: dict[str, Any] = {}
    for column, parents, leaf, is_json in JSONL_PLACES:
        place = record
        for parent in parents:
            place = place.setdefault(parent, {})
        value = row.get(column)
        place[leaf] = value_of(value, is_json=is_json)
    record["ground_truth"] = ground_truth(row)
    record["marks"] = [] if row["marks"] is None else orjson.Fragment(row["marks"])
    return orjson.dumps(record)


def ground_truth(row: Row) -> dict[str, Any] | None:
    """The correction that is right, as the API gives it."""
    if row["correction_id"] is None:
        return None
    return {
        "output": value_of(row["truth_output"], is_json=True),
        "correction_id": row["correction_id"],
        "corrected_by": row["corrected_by"],
        "recorded_at": value_of(row["corrected_at"], is_json=False),
    }


JSONL_PLACES: Final = tuple(
    (field.column, tuple(field.path.split(".")[:-1]), field.path.split(".")[-1], field.sql_type == "JSON")
    for field in FIELDS
)
"""Column, objects around it, name in the innermost, and whether it is JSON, for each field of a JSON line."""


def value_of(value: Any, *, is_json: bool) -> Any:
    """A column's value as ``orjson`` writes it."""
    if is_json and value is not None:
        # A line's end inside JSON text can only stand between its tokens.
        return orjson.Fragment(value.replace("\n", " ").replace("\r", " "))
    if isinstance(value, datetime):
        return format_instant(value)
    return value


def openai_chat(row: Row) -> bytes:
    """A line of OpenAI's supervised fine-tuning: the conversation, answered with the correction."""
    target = messages.answered(_truth(row))
    told = _conversation(row)
    example: dict[str, Any] = {"messages": [*told, target]}
    tools = _tools(row)
    if tools:
        example["tools"] = tools
    elif any("tool_calls" in message for message in example["messages"]):
        raise Unfit("tool_calls_without_tools")
    return _line(example)


def preference(row: Row) -> bytes:
    """A line of OpenAI's preference fine-tuning: the correction is preferred to what was said."""
    told, chosen, rejected = _pair(row)
    tools = _tools(row)
    asked = {"messages": told, **({"tools": tools} if tools else {})}
    return _line({"input": asked, "preferred_output": [chosen], "non_preferred_output": [rejected]})


def preference_trl(row: Row) -> bytes:
    """``prompt``, ``chosen``, ``rejected`` as lists of messages, TRL's conversational preference format."""
    told, chosen, rejected = _pair(row)
    if any("tool_calls" in message or message["role"] == "tool" for message in told):
        raise Unfit("tool_calls_have_no_place_here")
    return _line({"prompt": told, "chosen": [chosen], "rejected": [rejected]})


def inspect(row: Row) -> bytes:
    """A sample of Inspect AI: the conversation as input, the correction as target."""
    target = messages.answered(_truth(row))
    if target.get("content") is None:
        raise Unfit("target_is_no_text")
    told = _conversation(row)
    alone = len(told) == 1 and told[0]["role"] == "user"
    # Inspect knows no role "developer".
    samples = [
        _inspected(message | {"role": _INSPECT_ROLES.get(message["role"], message["role"])})
        for message in told
    ]
    return _line(
        {
            "input": told[0]["content"] if alone else samples,
            "target": target["content"],
            "id": row["decision_id"],
            "metadata": _facts(row),
        }
    )


_INSPECT_ROLES: Final = {"developer": "system"}


def _inspected(message: Message) -> Message:
    told = {name: value for name, value in message.items() if name != "name"}
    if told["content"] is None:
        told["content"] = ""
    if "tool_calls" in told:
        told["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": call["function"]["name"],
                "arguments": _arguments(call["function"]["arguments"]),
            }
            for call in told["tool_calls"]
        ]
    return told


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except ValueError as error:
        raise Unfit("tool_arguments_are_no_object") from error
    if not isinstance(arguments, dict):
        raise Unfit("tool_arguments_are_no_object")
    return arguments


def promptfoo(row: Row) -> bytes:
    """An entry of promptfoo's list of tests. One line; JSON in YAML's flow style."""
    truth = messages.parsed(_truth(row))
    expected = messages.answered(_truth(row)).get("content") if messages.are_messages(truth) else truth
    if expected is None:
        raise Unfit("target_is_no_text")
    test = {
        "description": row["decision_id"],
        "vars": _variables(row),
        "assert": [{"type": "equals", "value": expected}],
        "metadata": _facts(row),
    }
    if _reads_as_template(test):
        # promptfoo would run it, or load the file it names, instead of comparing it.
        raise Unfit("promptfoo_would_read_it_as_template")
    text = json.dumps(test, ensure_ascii=False, separators=(", ", ": "))
    return b"- " + _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8")


_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What YAML allows in quotes only as an escape, or reads as a line's end."""

_TEMPLATE: Final = re.compile(r"\{\{|\{%|\{#|\A\s*(?:file|package|python|exec|https?)://", re.IGNORECASE)


def _reads_as_template(value: Any) -> bool:
    if isinstance(value, str):
        return _TEMPLATE.search(value) is not None
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return any(_reads_as_template(name) or _reads_as_template(member) for name, member in members)


def _variables(row: Row) -> dict[str, str]:
    """Texts only: a list would make promptfoo run the test once for each of its members."""
    if row["prompt_variables"] is not None:
        found = messages.parsed(row["prompt_variables"])
        if isinstance(found, dict) and found:
            return {name: messages.said(value) for name, value in found.items()}
    if row["input"] is None:
        raise Unfit("no_input")
    value = messages.parsed(row["input"])
    if messages.are_messages(value):
        return {"messages": messages.said(messages.chat(value))}
    if isinstance(value, dict) and value:
        return {name: messages.said(member) for name, member in value.items()}
    return {"input": messages.said(value)}


def _truth(row: Row) -> str:
    if row["correction_id"] is None:
        raise Unfit("no_ground_truth")
    return str(row["truth_output"])


def _conversation(row: Row) -> list[Message]:
    told = messages.conversation(row)
    fault = messages.faults(told)
    if fault is not None:
        raise Unfit(fault)
    return told


def _pair(row: Row) -> tuple[list[Message], Message, Message]:
    """The conversation, what should have been said, what was said; both are text only."""
    chosen = messages.answered(_truth(row))
    if row["output"] is None:
        raise Unfit("no_output")
    rejected = messages.answered(row["output"])
    if "tool_calls" in chosen or "tool_calls" in rejected:
        raise Unfit("tool_calls_have_no_place_here")
    if chosen == rejected:
        raise Unfit("correction_equals_output")
    return _conversation(row), chosen, rejected


def _tools(row: Row) -> list[dict[str, Any]]:
    """The tools that were offered, in OpenAI's shape."""
    found = messages.parsed(row["tools"]) if row["tools"] is not None else []
    if not isinstance(found, list):
        raise Unfit("tools_are_no_list")
    tools = []
    for tool in found:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Unfit("tool_without_name")
        known = {name: function[name] for name in ("name", "description", "parameters") if name in function}
        tools.append({"type": "function", "function": known})
    return tools


def _facts(row: Row) -> dict[str, Any]:
    names = (
        "decision_id", "digest", "correction_id", "corrected_by", "decision_type", "service_name",
        "prompt_name", "prompt_version", "model_name",
    )  # fmt: skip
    return {name: row[name] for name in names if row.get(name) is not None}


def _line(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unfit("no_unicode_text") from error


FORMATS: Final[Mapping[str, Format]] = {
    "jsonl": Format(
        jsonl, "decisions{split}.jsonl", "decisions with their ground truth and marks, as JSON lines"
    ),
    "parquet": Format(None, "decisions{split}.parquet", "the same as a Parquet table"),
    "openai-chat": Format(
        openai_chat, "chat{split}.jsonl", "OpenAI fine-tuning: the correction as the answer"
    ),
    "preference": Format(preference, "preference{split}.jsonl", "OpenAI preference pairs"),
    "preference-trl": Format(
        preference_trl, "preference{split}.jsonl", "prompt, chosen, rejected, as TRL reads them"
    ),
    "inspect": Format(inspect, "samples{split}.jsonl", "samples of Inspect AI"),
    "promptfoo": Format(promptfoo, "tests{split}.yaml", "tests of promptfoo"),
    "hf": Format(None, "data/{split}-00000.parquet", "a folder that Hugging Face datasets loads"),
}
"""Every format by the word that asks for it."""
