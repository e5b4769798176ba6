"""One model call: asked, asked again where that can help, and answered or failed with an explanation.

any-llm carries it (docs/adr/0017). It retries nothing and changes nothing here: pauses and attempts are ours,
so that a provider's ``Retry-After`` is honoured and a call that may have been charged is not made twice.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

from pydantic import ValidationError

from loopgrid_collector.dialects.messages import of_response
from loopgrid_query.replay import anthropic
from loopgrid_query.replay.pacing import Pace, Turn, Withheld
from loopgrid_query.replay.providers import Provider
from loopgrid_query.replay.request import ANTHROPIC, ModelRequest

EXTRA: Final = "replay-model"
_LIBRARY: Final = "any_llm"
_AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses of an answer that says: nothing was done, ask again."""
_BUSY: Final = frozenset({429, 529})
"""Those that are about all calls, not about this one."""
_SPENT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of a 429 that no waiting ends."""
_NEVER_SENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})
_STUMBLES: Final = frozenset({"TypeError", "AttributeError", "KeyError", "ValidationError"})
_NO_KEY: Final = "none"
"""Sent where none is set up; else the library would look for one of its own in the environment."""
_TRANSPORTS: Final = ("httpx", "httpx2")
_FIRST_PAUSE_S: Final = 0.5
_MAX_TEXT: Final = 500
"""Characters of a provider's own words that a reason repeats."""
_KEYS_REFUSED: Final = frozenset({401, 403})
_SIGNED_64: Final = 2**63
_LETTERS_A_TOKEN: Final = 4
_MOST_WRITTEN: Final = ("max_completion_tokens", "max_tokens")
"""Parameters that say how much may be written; providers count it as used until they have answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered.

    Attributes:
        messages: in the record's form, one a choice.
        usage: token counts by the record's names; those that were not stated are not there.
        model: the model that answered; None where the answer does not say.
        response_id: the provider's id of it.
        finish_reasons: one a choice, where stated.
        started_ns: when the attempt that was answered began, nanoseconds since 1970.
        duration_ms: how long that attempt took.
        attempts: how often it was asked.
    """

    messages: list[dict[str, Any]]
    usage: Mapping[str, int]
    model: str | None
    response_id: str | None
    finish_reasons: list[str]
    started_ns: int
    duration_ms: float
    attempts: int


class CallFailed(Exception):
    """No answer.

    Its text is a sentence for people. The key is not in it.

    Attributes:
        kind: what failed, in a word that is the same for all calls that fail so.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Trouble:
    """An attempt that was not answered.

    Attributes:
        kind: as of ``CallFailed``.
        reason: likewise.
        again: whether the same request may be sent again.
        wait_s: seconds that the provider asks to wait.
        status: of the provider's answer; None where there was none.
    """

    kind: str
    reason: str
    again: bool = False
    wait_s: float | None = None
    status: int | None = None

    @property
    def concerns_all(self) -> bool:
        """Whether other calls had better wait too."""
        return self.again and (self.status in _BUSY or self.wait_s is not None)


def installed() -> bool:
    """Whether the library that makes the calls is here."""
    return importlib.util.find_spec(_LIBRARY) is not None


class Caller:
    """Makes calls. All of one object's run on one event loop, which keeps the connections."""

    def __init__(
        self,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        spread: Callable[[], float] = random.random,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the library, which takes a second.

        Args:
            sleep: waits that many seconds.
            spread: a number from 0 to 1 by which pauses differ, so that calls that failed together do not
                come back together.
            now: seconds on a clock that never goes back.
        """
        self._library: Any = importlib.import_module(_LIBRARY)
        self._errors: Any = importlib.import_module(f"{_LIBRARY}.exceptions")
        # Its warnings go where the server's do.
        logger = logging.getLogger(_LIBRARY)
        logger.handlers.clear()
        logger.propagate = True
        for transport in _TRANSPORTS:
            # They write a line for each call.
            logging.getLogger(transport).setLevel(logging.WARNING)
        self._sleep = sleep
        self._spread = spread
        self._now = now
        self._clients: dict[str, Any] = {}
        self._paces: dict[str, Pace] = {}

    @property
    def paces(self) -> Mapping[str, Pace]:
        """The turns of each provider that was asked so far, by its name."""
        return dict(self._paces)

    async def call(
        self, request: ModelRequest, provider: Provider, sent: Callable[[], None] = lambda: None
    ) -> Answer:
        """Ask until there is an answer or no hope of one, when the provider's limits allow it.

        Args:
            request: what is asked.
            provider: who is asked.
            sent: called when the request is about to be sent, each time.

        Raises:
            CallFailed: there is none; says why.
        """
        pace = self._paces.setdefault(provider.name, Pace(provider, self._now, self._sleep))
        expected = expected_tokens(request)
        for attempt in range(1, provider.max_attempts + 1):
            try:
                async with pace.turn(expected) as turn:
                    sent()
                    found = await self._attempt(request, provider, attempt)
                    pause_s = self._told(turn, found, provider, attempt)
            except Withheld as withheld:
                raise CallFailed("paused", f"{withheld} It was not asked.") from withheld
            if isinstance(found, Answer):
                return found
            if not found.again:
                raise CallFailed(found.kind, found.reason)
            if attempt == provider.max_attempts:
                times = "once" if attempt == 1 else f"{attempt} times"
                raise CallFailed(found.kind, f"{found.reason} It was asked {times} (max_attempts).")
            if pause_s > provider.max_retry_wait_s:
                raise CallFailed(found.kind, _too_long(found, provider, pause_s))
            if not found.concerns_all:
                # Else the next turn comes after the pause.
                await self._sleep(pause_s)
        raise AssertionError("the last attempt either answers or raises")

    def _told(self, turn: Turn, found: Answer | _Trouble, provider: Provider, attempt: int) -> float:
        """Tell the others what came of an attempt; seconds of the pause before another one."""
        if isinstance(found, Answer):
            turn.answered(_used_tokens(found.usage))
            return 0.0
        pause_s = self._pause_s(found, attempt)
        if found.concerns_all:
            too_long = pause_s > provider.max_retry_wait_s
            turn.held_back(pause_s, _too_long(found, provider, pause_s) if too_long else found.reason)
        elif found.status is not None:
            turn.failed()
        return pause_s

    async def close(self) -> None:
        """Let go of the connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.client.close()

    def _pause_s(self, trouble: _Trouble, attempt: int) -> float:
        backoff_s = _FIRST_PAUSE_S * 2 ** (attempt - 1) * (1 + self._spread())
        return backoff_s if trouble.wait_s is None else max(trouble.wait_s, 0.0)

    async def _attempt(self, request: ModelRequest, provider: Provider, attempt: int) -> Answer | _Trouble:
        started_ns, started = time.time_ns(), time.perf_counter()
        try:
            async with asyncio.timeout(provider.timeout_s):
                found = await self._sent(request, provider)
        except TimeoutError:
            return _silent(provider)
        except ValidationError:
            # The library's own check of an answer, which it does not turn into one of its errors.
            return _Trouble("no_completion", f"What {provider.name} answered is no completion.")
        except self._errors.AnyLLMError as error:
            return _trouble(error, provider)
        duration_ms = (time.perf_counter() - started) * 1000
        return _read(found, provider, started_ns, duration_ms, attempt)

    async def _sent(self, request: ModelRequest, provider: Provider) -> Any:
        """Past every translation of the library: what it does not know it does not change."""
        client, timeout_s = self._client(provider), provider.timeout_s
        if provider.protocol == ANTHROPIC:
            members = anthropic.members(request.messages, request.tools, request.parameters)
            return await client.amessages(model=request.model, timeout=timeout_s, **members)
        return await client.acompletion(
            model=request.model,
            messages=list(request.messages),
            tools=list(request.tools) or None,
            timeout=timeout_s,
            # Otherwise a default of the library's own would stand in the request.
            reasoning_effort=None,
            **({"extra_body": dict(request.parameters)} if request.parameters else {}),
        )

    def _client(self, provider: Provider) -> Any:
        client = self._clients.get(provider.name)
        if client is None:
            protocols = importlib.import_module("anthropic" if provider.protocol == ANTHROPIC else "openai")
            common = {
                "api_key": provider.api_key or _NO_KEY,
                "api_base": provider.base_url,
                "unified_exceptions": True,
                "max_retries": 0,
                # The default one asks the system about every idle connection before each call: a third of
                # what a call costs with thirty of them.
                "http_client": protocols.DefaultAioHttpClient(),
            }
            if provider.protocol == ANTHROPIC:
                client = self._library.AnyLLM.create("anthropic", **common)
            else:
                client = self._library.AnyLLM.create_openai_compatible(name=provider.name, **common)
            self._clients[provider.name] = client
        return client


def expected_tokens(request: ModelRequest) -> int:
    """Tokens that a request is going to use, as good as its text tells; corrected once it is answered."""
    letters = _letters(request.messages) + _letters(request.tools)
    most = [request.parameters.get(name) for name in _MOST_WRITTEN]
    written = next((each for each in most if isinstance(each, int) and each > 0), 0)
    return letters // _LETTERS_A_TOKEN + 1 + written


def _letters(value: Any) -> int:
    if isinstance(value, str):
        # Images and sound are not counted by their letters.
        return 0 if value.startswith("data:") else len(value)
    if isinstance(value, Mapping):
        return sum(_letters(each) for name, each in value.items() if name != "data")
    if isinstance(value, list | tuple):
        return sum(map(_letters, value))
    return 0


def _used_tokens(usage: Mapping[str, int]) -> int | None:
    if "input_tokens" not in usage and "output_tokens" not in usage:
        return None
    return usage.get("input_tokens", 0) + usage.get("output_tokens", 0)


def _too_long(trouble: _Trouble, provider: Provider, pause_s: float) -> str:
    return (
        f"{trouble.reason} It asks for a pause of {pause_s:g} s, and this server waits "
        f"{provider.max_retry_wait_s:g} s at most (max_retry_wait_s)."
    )


def _silent(provider: Provider) -> _Trouble:
    return _Trouble(
        "timeout",
        f"{provider.name} did not answer within {provider.timeout_s:g} s (timeout_s). It may have been "
        "charged, so it was not asked again.",
    )


def _trouble(error: Any, provider: Provider) -> _Trouble:
    status, original = error.status_code, error.original_exception
    said = _said(error, provider)
    if isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST:
        reason = f"{provider.name} answered {status}: {said}."
        if status in _KEYS_REFUSED:
            reason += f" Check the key of [{provider.name}] in the file that LOOPGRID_PROVIDERS names."
        again = status in _AGAIN and error.code not in _SPENT
        return _Trouble(f"http_{status}", reason, again, _retry_after_s(original), status)
    causes = set(_causes(original))
    if "APITimeoutError" in causes and not causes & _NEVER_SENT:
        return _silent(provider)
    if causes & _NEVER_SENT:
        return _Trouble(
            "unreachable", f"{provider.name} cannot be reached at {provider.base_url}.", again=True
        )
    if "APIConnectionError" in causes:
        return _Trouble(
            "broken_off",
            f"{provider.name} broke off before its answer was whole. It may have been charged, so it was not "
            "asked again.",
        )
    # What the library stumbled over says nothing to whoever reads it.
    why = "." if causes & _STUMBLES else f": {said}."
    return _Trouble("no_completion", f"What {provider.name} answered is no completion{why}")


def _causes(error: BaseException | None) -> list[str]:
    """Names of an error's classes and of those that led to it."""
    names = []
    while error is not None:
        names += [kind.__name__ for kind in type(error).__mro__]
        error = error.__cause__ or error.__context__
    return names


def _said(error: Any, provider: Provider) -> str:
    body = getattr(error.original_exception, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    own = inner.get("message") if isinstance(inner, dict) else None
    text = " ".join((own if isinstance(own, str) else str(error.message)).split())
    if provider.api_key:
        # Some repeat the key that they do not know.
        text = text.replace(provider.api_key, "[key]")
    text = text.rstrip(". ")
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _retry_after_s(original: Any) -> float | None:
    """Seconds to wait, as the answer's header asks: a number, or a date."""
    headers = getattr(getattr(original, "response", None), "headers", None)
    text = headers.get("retry-after") if headers is not None else None
    if not isinstance(text, str):
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _read(
    found: Any, provider: Provider, started_ns: int, duration_ms: float, attempts: int
) -> Answer | _Trouble:
    body = found.model_dump(exclude_none=True)
    for choice in body.get("choices", ()):
        message = choice["message"]
        if isinstance(message.get("reasoning"), str):
            message["reasoning_content"] = message.pop("reasoning")
    messages = of_response(body)
    if not messages or not any(each["parts"] for each in messages):
        return _Trouble("no_completion", f"What {provider.name} answered is empty.")
    stated = body.get("usage") or {}
    return Answer(
        messages=messages,
        usage=_counts(_of_messages(stated) if provider.protocol == ANTHROPIC else _of_completions(stated)),
        model=body.get("model") or None,
        response_id=body.get("id") or None,
        finish_reasons=[each["finish_reason"] for each in messages if "finish_reason" in each],
        started_ns=started_ns,
        duration_ms=duration_ms,
        attempts=attempts,
    )


def _of_completions(stated: Mapping[str, Any]) -> dict[str, Any]:
    read, written = stated.get("prompt_tokens_details") or {}, stated.get("completion_tokens_details") or {}
    return {
        "input_tokens": stated.get("prompt_tokens"),
        "output_tokens": stated.get("completion_tokens"),
        "cache_read_tokens": read.get("cached_tokens"),
        "cache_write_tokens": read.get("cache_write_tokens"),
        "reasoning_tokens": written.get("reasoning_tokens"),
    }


def _of_messages(stated: Mapping[str, Any]) -> dict[str, Any]:
    read, written = stated.get("cache_read_input_tokens"), stated.get("cache_creation_input_tokens")
    plain = stated.get("input_tokens")
    return {
        # Its own count leaves out what came from a cache or went into one.
        "input_tokens": None if plain is None else plain + (read or 0) + (written or 0),
        "output_tokens": stated.get("output_tokens"),
        "cache_read_tokens": read,
        "cache_write_tokens": written,
    }


def _counts(stated: Mapping[str, Any]) -> dict[str, int]:
    counts = {name: count for name, count in stated.items() if isinstance(count, int)}
    return {name: count for name, count in counts.items() if 0 <= count < _SIGNED_64}
