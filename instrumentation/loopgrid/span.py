"""A decision while it is open, and what can be said about it. Its life is in `life`.

The sequence number is taken first: whatever fails later leaves a gap that shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from opentelemetry.context import Context, create_key, get_current, get_value, set_value
from opentelemetry.trace import Link, Span, Status, StatusCode, set_span_in_context
from opentelemetry.util.types import AnyValue

from loopgrid import tracing
from loopgrid.capture import Losses, capture, plain, text, utf8
from loopgrid.chunks import Chunks
from loopgrid.config import CaptureLimits
from loopgrid.health import Count, health
from loopgrid.life import Life, Opening, PromptFacts, guarded
from loopgrid.schema import RECORD_VERSION, SEMCONV_MODEL_PARAMETERS, Key, format_decision_id

_DECISION_KEY: Final = create_key("loopgrid-decision")
_REPLAY_KEY: Final = create_key("loopgrid-replay")

MAX_INT64: Final = 2**63 - 1
ABSENT: Final = object()
"""Default of what None would say something about."""


@dataclass(frozen=True, slots=True)
class ReplayScope:
    """The replay that the next decision opened in this context is the result of."""

    replay_id: str
    decision_id: str
    link: Link
    result: tuple[int, int] | None = None
    """Trace and span id that it is recorded under: the same attempt is one decision. New ones if None."""


class Decision(Life):
    """The decision that is open: what it does not say by its arguments and return value is said here.

    Outside a decision, or with recording disabled, every method does nothing. No method raises: a fact that
    cannot be recorded is counted and named in the record's `lossiness`.
    """

    __slots__ = (
        "_considered", "_late", "_metadata", "_not_executed", "_output", "_prompt", "_rendered", "_tags",
    )  # fmt: skip

    output_key: ClassVar[str] = Key.DECISION_OUTPUT

    def __init__(
        self, span: Span | None, opening: Opening, limits: CaptureLimits, inside: Context | None = None
    ) -> None:
        super().__init__(span, opening, limits, inside)
        self._prompt = opening.prompt
        self._late = opening.late
        self._rendered = False
        self._tags: list[str] = []
        self._metadata: set[str] = set()
        self._considered: list[object] = []
        self._not_executed: list[dict[str, object]] = []
        self._output: object = ABSENT

    @property
    def output(self) -> object:
        """What was decided, as stated so far; None where nothing was.

        A block states its output here. In a decorated function it takes the place of the return value, where
        that is something else, such as an HTTP response.
        """
        return None if self._output is ABSENT else self._output

    @output.setter
    def output(self, output: object) -> None:
        self._output = output

    @property
    def decision_id(self) -> str | None:
        """`<trace_id>-<span_id>` of this decision, or None outside one."""
        if self._span is None:
            return None
        context = self._span.get_span_context()
        return format_decision_id(context.trace_id, context.span_id)

    def usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
    ) -> None:
        """State tokens used; None says nothing."""
        for key, number in (
            (Key.INPUT_TOKENS, input_tokens),
            (Key.OUTPUT_TOKENS, output_tokens),
            (Key.CACHE_READ_TOKENS, cache_read_tokens),
            (Key.CACHE_WRITE_TOKENS, cache_write_tokens),
            (Key.REASONING_TOKENS, reasoning_tokens),
        ):
            if number is not None:
                self._state(key, number, _tokens)

    def model(
        self,
        *,
        provider: str | None = None,
        name: str | None = None,
        response_name: str | None = None,
        response_id: str | None = None,
    ) -> None:
        """State the model asked and, as `response_name`, the one that answered; None says nothing."""
        for key, value in (
            (Key.PROVIDER_NAME, provider),
            (Key.REQUEST_MODEL, name),
            (Key.RESPONSE_MODEL, response_name),
            (Key.RESPONSE_ID, response_id),
        ):
            if value is not None:
                self._state(key, value, self._text_of)

    def finish_reasons(self, *reasons: str) -> None:
        """State why the model stopped, one reason per choice."""
        self._state(Key.FINISH_REASONS, reasons, self._texts_of)

    def metadata(self, **facts: object) -> None:
        """State free facts by name, for example a business key; values are anything JSON can hold."""
        for name, value in facts.items():
            self._state(Key.METADATA_PREFIX + name, value, self._fact_of)

    def key(self, name: str, value: str | int) -> None:
        """State a business key, by which what becomes of the decision can be found: `key("order", "4711")`.

        It also stands in the decision's metadata: `list_decisions(metadata={"order": "4711"})` finds it.
        """
        self._state(f"{Key.BUSINESS_KEY_PREFIX}{name}", value, self._text_of)

    def outcome(self, outcome: object) -> None:
        """State what became of it, as far as that is known now; anything JSON can hold."""
        self._state(Key.DECISION_OUTCOME, outcome, self._json_of)

    def considered(self, options: Iterable[object]) -> None:
        """State the options it chose from, for example with their scores. Called again, more of them."""
        given = options if isinstance(options, (list, tuple, set, frozenset, dict)) else None
        if given is None:
            self._refuse(Key.DECISION_CONSIDERED, options, "considered() takes a list of options")
            return
        self._considered.extend(given.items() if isinstance(given, dict) else given)
        self._state(Key.DECISION_CONSIDERED, self._considered, self._json_of)

    def not_executed(self, action: object, reason: str) -> None:
        """State an action that was decided, or asked for, and not taken: a dry run, a limit, a veto."""
        if len(self._not_executed) >= self._limits.max_facts:
            self._losses.note(Key.DECISION_NOT_EXECUTED, "facts_omitted")
            return
        self._not_executed.append({"action": action, "reason": reason})
        self._state(Key.DECISION_NOT_EXECUTED, self._not_executed, self._json_of)

    def tags(self, *labels: str) -> None:
        """Add free labels."""
        self._tags.extend(labels)
        self._state(Key.TAGS, tuple(dict.fromkeys(self._tags)), self._texts_of)

    def session(self, session_id: str) -> None:
        """State the conversation or session."""
        self._state(Key.SESSION_ID, session_id, self._text_of)

    def user(self, user_id: str) -> None:
        """State the end user on whose behalf it is decided."""
        self._state(Key.USER_ID, user_id, self._text_of)

    def agent(self, name: str) -> None:
        """State the agent that decides."""
        self._state(Key.AGENT_NAME, name, self._text_of)

    def rendered(
        self, prompt: PromptFacts, variables: Mapping[str, object], filled_in: str | None = None
    ) -> None:
        """Record the prompt that was filled in, and with what. `Prompt.render` calls this."""
        span = self._open_span()
        if span is not None:
            guarded(Count.FACT_FAILED, self._record_prompt, span, prompt, variables, filled_in)

    def succeed(self, output: object) -> None:
        """End it with what its function returned, or with the `output` that was stated."""
        super().succeed(output if self._output is ABSENT else self._output)

    def complete(self, chunks: Chunks, returned: object = None) -> None:
        """End it after its last chunk; an `output` that was stated takes the place of the chunks."""
        if self._output is ABSENT:
            super().complete(chunks, returned)
        else:
            super().succeed(self._output)

    def conclude(self) -> None:
        """End it with the `output` that was stated; without one, the record has none."""
        if self._output is not ABSENT:
            self.succeed(self._output)
        elif self._span is not None and not self._ended:
            self._end(self._span, Status(StatusCode.OK))

    def _close(self, span: Span, status: Status | None) -> None:
        if self._late is not None:
            span.set_attributes(self._late())
        super()._close(span, status)

    def _open_span(self) -> Span | None:
        if self._ended:
            health.trouble(Count.FACT_LATE, "a fact was stated about a decision that had already ended")
            return None
        return self._span

    def _state(self, key: str, value: object, form: Callable[[str, object], AnyValue]) -> None:
        span = self._open_span()
        if span is not None and guarded(Count.FACT_FAILED, self._set, span, key, value, form) is None:
            self._losses.note(key, f"refused:{type(value).__name__}")

    def _refuse(self, key: str, value: object, advice: str) -> None:
        health.trouble(Count.FACT_FAILED, advice)
        self._losses.note(key, f"refused:{type(value).__name__}")

    def _set(self, span: Span, key: str, value: object, form: Callable[[str, object], AnyValue]) -> bool:
        key = utf8(key)
        if self._facts_full(key):
            self._losses.note(key, "facts_omitted")
        else:
            span.set_attribute(key, form(key, value))
        return True

    def _facts_full(self, key: str) -> bool:
        """Whether one more metadata key would be too many: the SDK would evict the oldest attribute."""
        if not key.startswith((Key.METADATA_PREFIX, Key.BUSINESS_KEY_PREFIX)) or key in self._metadata:
            return False
        self._metadata.add(key)
        return len(self._metadata) > self._limits.max_facts

    def _text_of(self, key: str, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise TypeError(key)
        return text(str(value), key, self._limits.max_text_bytes, self._losses)

    def _texts_of(self, key: str, values: object) -> list[str]:
        if not isinstance(values, tuple):
            raise TypeError(key)
        if len(values) > self._limits.max_facts:
            self._losses.note(key, f"items_omitted:{len(values) - self._limits.max_facts}")
        return [self._text_of(key, value) for value in values[: self._limits.max_facts]]

    def _fact_of(self, key: str, value: object) -> AnyValue:
        form: AnyValue = plain(value, key, self._limits, self._losses)
        return form

    def _json_of(self, key: str, value: object) -> str:
        return capture(value, key, self._limits, self._losses)

    def _record_prompt(
        self, span: Span, prompt: PromptFacts, variables: Mapping[str, object], filled_in: str | None
    ) -> None:
        if self._prompt is None:
            self._prompt = prompt
            span.set_attributes(prompt_attributes(prompt, self._limits, self._losses))
        elif self._prompt != prompt:
            # A decision has one prompt: the one among its arguments, or else the first one rendered.
            self._losses.note(f"prompt.{prompt.name}", "also_rendered")
            return
        if self._rendered:
            self._losses.note("prompt.variables", "rendered_again")
        self._rendered = True
        if filled_in is not None:
            limit = self._limits.max_content_bytes
            rendered = text(filled_in, "prompt.rendered", limit, self._losses)
            span.set_attribute(Key.PROMPT_RENDERED, rendered)
        for name, value in list(variables.items())[: self._limits.max_facts]:
            key = utf8(Key.PROMPT_VARIABLE_PREFIX + name)
            span.set_attribute(key, text(str(value), key, self._limits.max_text_bytes, self._losses))
        if len(variables) > self._limits.max_facts:
            self._losses.note("prompt.variables", f"items_omitted:{len(variables) - self._limits.max_facts}")


CLOSED: Final = Decision(None, Opening(), CaptureLimits())
"""Stands for "no decision is open": every method does nothing."""


def current() -> Decision:
    """The innermost open decision, to state what its arguments and return value do not say.

    Outside a decision the answer is an object whose methods do nothing, so that a helper may call
    `loopgrid.current().usage(input_tokens=12)` wherever it runs.
    """
    decision = get_value(_DECISION_KEY)
    return decision if isinstance(decision, Decision) else CLOSED


def is_inside(context: Context | None) -> bool:
    """Whether a decision is open in the context (by default the current one)."""
    return isinstance(get_value(_DECISION_KEY, context), Decision)


def open_decision(decision_type: str, describe: Callable[[CaptureLimits], Opening]) -> Decision:
    """Open a decision in the current context.

    Raises:
        SpoolFull: it is known that it could not be kept, and the policy is to raise. Nothing else is raised.
    """
    return guarded(Count.OPEN_FAILED, _open, decision_type, describe) or CLOSED


def opening_of(describe: Callable[[CaptureLimits], Opening], limits: CaptureLimits) -> Opening:
    """What a call says about itself; where that fails, an opening that says so."""
    opening = guarded(Count.INPUT_FAILED, describe, limits)
    if opening is None:
        opening = Opening()
        opening.losses.note("input", "failed")
    return opening


def _open(decision_type: str, describe: Callable[[CaptureLimits], Opening]) -> Decision:
    pipeline = tracing.active()
    if pipeline is None:
        return CLOSED
    pipeline.admit()
    limits = pipeline.config.capture
    number = pipeline.next_number()
    opening = opening_of(describe, limits)
    attributes = opening.attributes
    attributes[Key.RECORD_VERSION] = RECORD_VERSION
    attributes[Key.DECISION_TYPE] = decision_type
    attributes[Key.PRODUCER_ID] = pipeline.producer_id
    attributes[Key.PRODUCER_SEQ] = number
    outside = get_current()
    replay = get_value(_REPLAY_KEY, outside)
    links = []
    own = None
    if isinstance(replay, ReplayScope):
        own = replay.result
        attributes[Key.REPLAY_ID] = replay.replay_id
        attributes[Key.REPLAY_OF] = replay.decision_id
        links.append(replay.link)
    span = pipeline.start(decision_type, outside, attributes, links, own)
    decision = Decision(span, opening, limits)
    inside = set_value(_DECISION_KEY, decision, set_span_in_context(span, outside))
    if replay is not None:
        # A replay has one result: decisions inside it are its steps, not results too.
        inside = set_value(_REPLAY_KEY, None, inside)
    decision._inside = inside  # noqa: SLF001 - the two halves of one life
    return decision


def replay_context(scope: ReplayScope) -> Context:
    """An empty context, hence a new trace, in which the next decision is the result of the replay."""
    return set_value(_REPLAY_KEY, scope, Context())


def prompt_attributes(prompt: PromptFacts, limits: CaptureLimits, losses: Losses) -> dict[str, AnyValue]:
    """The attributes that carry a prompt."""
    attributes: dict[str, AnyValue] = {
        Key.PROMPT_NAME: text(prompt.name, "prompt.name", limits.max_text_bytes, losses),
        Key.PROMPT_TEMPLATE: text(prompt.template, "prompt.template", limits.max_content_bytes, losses),
    }
    if prompt.version is not None:
        attributes[Key.PROMPT_VERSION] = text(prompt.version, "prompt.version", limits.max_text_bytes, losses)
    return attributes


def model_attributes(
    provider: str,
    name: str,
    parameters: Mapping[str, object],
    limits: CaptureLimits,
    losses: Losses,
) -> dict[str, AnyValue]:
    """The attributes that carry a model and its parameters."""
    attributes: dict[str, AnyValue] = {
        Key.PROVIDER_NAME: text(provider, "model.provider", limits.max_text_bytes, losses),
        Key.REQUEST_MODEL: text(name, "model.name", limits.max_text_bytes, losses),
    }
    others: dict[str, object] = {}
    for parameter, value in parameters.items():
        if parameter in SEMCONV_MODEL_PARAMETERS and _is_semconv(value):
            form = plain(value, f"model.{parameter}", limits, losses)
            attributes[Key.REQUEST_PREFIX + parameter] = form
        else:
            others[parameter] = value
    if others:
        attributes[Key.MODEL_PARAMETERS] = capture(others, "model.parameters", limits, losses)
    return attributes


def _is_semconv(value: object) -> bool:
    """Whether OpenTelemetry's type of a request parameter can hold the value as it is."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return -MAX_INT64 <= value <= MAX_INT64
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, float)


def _tokens(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INT64:
        raise TypeError(key)
    return value
