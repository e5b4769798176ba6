"""The request that sends a recorded model call again. Pure.

What goes out is the record with the overrides in it: its messages in order, its tools, its parameters. Where
that cannot be told from the record, ``Unsendable`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loopgrid_query.replay import anthropic, chat, losses, parameters, prompting
from loopgrid_query.replay import overrides as grammar
from loopgrid_query.replay.chat import Message
from loopgrid_query.replay.unsendable import Unsendable

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"
PROTOCOLS: Final = (OPENAI, ANTHROPIC)
"""What providers speak: OpenAI's chat completions, or Anthropic's messages."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A model call as it will be sent.

    Attributes:
        provider: who is asked, as the record or an override names it.
        protocol: one of ``PROTOCOLS``.
        model: the model that is asked for.
        messages: in OpenAI's form.
        tools: likewise.
        parameters: further members of the request.
        told: the messages in the record's form, with the overrides in them.
    """

    provider: str
    protocol: str
    model: str
    messages: Sequence[Message]
    tools: Sequence[Message]
    parameters: Mapping[str, Any]
    told: Sequence[Message]


def provider_of(decision: Mapping[str, Any], overrides: grammar.Overrides) -> str:
    """Who would be asked.

    Raises:
        Unsendable: nobody says.
    """
    provider = grammar.merge(decision, overrides)["model"].get("provider")
    if not provider:
        raise Unsendable('The record does not name the provider. Override "model.provider".')
    return str(provider)


def request_of(decision: Mapping[str, Any], overrides: grammar.Overrides, protocol: str) -> ModelRequest:
    """The request that replays a recorded model call.

    Args:
        decision: the original, parsed.
        overrides: checked by ``overrides.check``.
        protocol: what the provider speaks, one of ``PROTOCOLS``.

    Raises:
        Unsendable: the record cannot be sent as what it was.
    """
    provider = provider_of(decision, overrides)
    model = grammar.merge(decision, overrides)["model"]
    if not model.get("name"):
        raise Unsendable('The record does not name the model that was asked for. Override "model.name".')
    given = overrides.get("prompt", {})
    losses.check(decision["lossiness"], prompt=bool(given))
    told = prompting.changed(chat.canonical(decision["input"]), decision["prompt"], given)
    messages, tools = chat.chat_messages(told), chat.chat_tools(decision["tools"])
    if not tools and (chat.calls_tools(told) or chat.calls_tools(decision["output"])):
        raise Unsendable("It calls tools, and the tools it was offered are not recorded.")
    request = ModelRequest(
        provider=provider,
        protocol=protocol,
        model=str(model["name"]),
        messages=messages,
        tools=tools,
        parameters=parameters.sent(model.get("parameters"), protocol, provider),
        told=told,
    )
    if protocol == ANTHROPIC:
        anthropic.members(request.messages, request.tools, request.parameters)
    return request
