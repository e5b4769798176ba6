"""Definitions of the tools that a model call was offered, in one form whoever recorded them.

Canonical: a list of ``{"type", "name", "description"?, "parameters"?}``, ``parameters`` a JSON schema.
A definition of no known shape stays what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from loopgrid_collector.dialects.messages import regroup
from loopgrid_collector.dialects.parsers import UnreadableError, read_json
from loopgrid_collector.dialects.parts import present

_FUNCTION: Final = "function"
_SPELLINGS: Final = frozenset(
    {
        "function",
        "toolSpec",
        "input_schema",
        "inputSchema",
        "jsonSchema",
        "parameters_json_schema",
        "json_schema",
    }
)
_SCHEMAS: Final = ("parameters", "input_schema", "inputSchema", "jsonSchema", "parameters_json_schema")
_DECLARED: Final = ("functionDeclarations", "function_declarations")


def is_canonical_tools(value: Any) -> bool:
    """Whether a decoded list of definitions can be kept word for word."""
    return isinstance(value, list) and bool(value) and all(map(_is_canonical, value))


def _is_canonical(tool: Any) -> bool:
    if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
        return False
    return isinstance(tool.get("name"), str) and _SPELLINGS.isdisjoint(tool)


def definitions(value: Any) -> list[Any]:
    """Tool definitions of any convention: a list of them, one, or a map from name to definition."""
    if isinstance(value, Mapping) and isinstance(value.get("tools"), list):
        value = value["tools"]
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return []
    return [found for item in value for found in _definitions(_decoded(item))]


def flattened(row: Mapping[str, Any], prefix: str) -> list[Any]:
    """``llm.tools.<n>.tool.json_schema`` and ``llm.request.functions.<n>.…``."""
    found: list[Any] = []
    for item in regroup(row, prefix):
        tool = item.get("tool", item) if isinstance(item, dict) else item
        if isinstance(tool, dict):
            schema = _decoded(tool.get("json_schema"))
            tool = schema if isinstance(schema, dict) else tool
        found += _definitions(tool)
    return found


def _definitions(tool: Any) -> list[Any]:
    if not isinstance(tool, dict):
        return [] if tool is None else [tool]
    for member in _DECLARED:
        if isinstance(tool.get(member), list):
            return [_definition(item) for item in tool[member]]
    return [_definition(tool)]


def _definition(tool: Any) -> Any:
    if not isinstance(tool, dict):
        return tool
    inner = tool.get("function", tool.get("toolSpec"))
    body = inner if isinstance(inner, dict) else tool
    if not isinstance(body.get("name"), str):
        return tool
    schema = next((_decoded(body[member]) for member in _SCHEMAS if body.get(member) is not None), None)
    if isinstance(schema, dict) and isinstance(schema.get("json"), dict) and len(schema) == 1:
        schema = schema["json"]
    kind = tool.get("type")
    # Anthropic calls a caller's own tool "custom"; what has another type is the provider's.
    kind = kind if isinstance(kind, str) and kind != "custom" else _FUNCTION
    found = {"type": kind, "name": body["name"], "description": body.get("description"), "parameters": schema}
    if kind != _FUNCTION:
        return {**present(found), **present({key: value for key, value in tool.items() if key not in found})}
    return present(found)


def _decoded(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(UnreadableError):
            return read_json(value)
    return value
