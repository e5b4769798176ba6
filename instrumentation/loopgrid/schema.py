"""The decision record: its fields, the attribute keys that carry it on a span, its version.

Laws of this module:

* It is the one home of these names. SQL columns, API models and the pages in ``docs/spec``
  are derived from it or compared with it by a test; nothing else spells them out.
* Standard library only: an application imports it, and so does the collector.
* Adding a field is a new ``RECORD_VERSION`` minor; renaming or removing one is a major change.
* Absent stays absent. No field has a default value.

Names follow OpenTelemetry (``gen_ai.*``, ``code.*``, ``session.*``, ``user.*``, ``error.*``) where
a name exists, and ``loopgrid.*`` where none does (``docs/spec/decision-record.md``).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RECORD_VERSION: Final = 1
"""Version of the decision record that this release writes (``loopgrid.record.version``)."""


class Kind(StrEnum):
    """What a span is to LoopGrid."""

    DECISION = "decision"
    """A decorated function, or a decision recorded through the API."""
    INFERENCE = "inference"
    """One model call."""
    AGENT = "agent"
    """An agent, chain or workflow: groups other spans."""
    TOOL = "tool"
    """One tool execution."""
    RETRIEVAL = "retrieval"
    """One search in a document or memory store."""
    EMBEDDING = "embedding"
    """One embedding call."""
    OTHER = "other"
    """Anything else in the trace."""


class Key:
    """Span attribute keys that carry the decision record."""

    RECORD_VERSION: Final = "loopgrid.record.version"
    DECISION_TYPE: Final = "loopgrid.decision.type"
    DECISION_INPUT: Final = "loopgrid.decision.input"
    DECISION_OUTPUT: Final = "loopgrid.decision.output"
    DECISION_RETURNED: Final = "loopgrid.decision.returned"
    DECISION_OUTCOME: Final = "loopgrid.decision.outcome"
    DECISION_CONSIDERED: Final = "loopgrid.decision.considered"
    DECISION_NOT_EXECUTED: Final = "loopgrid.decision.not_executed"
    BUSINESS_KEY_PREFIX: Final = "loopgrid.key."
    STEP_NAME: Final = "loopgrid.step.name"
    STEP_INPUT: Final = "loopgrid.step.input"
    STEP_OUTPUT: Final = "loopgrid.step.output"
    STEP_FROM_RECORD: Final = "loopgrid.step.from_record"
    TOOL_EFFECT: Final = "loopgrid.tool.effect"
    TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
    TOOL_NAME: Final = "gen_ai.tool.name"
    TOOL_TYPE: Final = "gen_ai.tool.type"
    TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
    TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
    TOOL_RESULT: Final = "gen_ai.tool.call.result"
    OPERATION_NAME: Final = "gen_ai.operation.name"
    PROMPT_TEMPLATE: Final = "loopgrid.prompt.template"
    PROMPT_RENDERED: Final = "loopgrid.prompt.rendered"
    PROMPT_ARGUMENT: Final = "loopgrid.prompt.argument"
    PROMPT_NAME: Final = "gen_ai.prompt.name"
    PROMPT_VERSION: Final = "gen_ai.prompt.version"
    PROMPT_VARIABLE_PREFIX: Final = "gen_ai.prompt.variable."
    MODEL_ARGUMENT: Final = "loopgrid.model.argument"
    MODEL_PARAMETERS: Final = "loopgrid.model.parameters"
    PROVIDER_NAME: Final = "gen_ai.provider.name"
    REQUEST_MODEL: Final = "gen_ai.request.model"
    REQUEST_PREFIX: Final = "gen_ai.request."
    RESPONSE_MODEL: Final = "gen_ai.response.model"
    RESPONSE_ID: Final = "gen_ai.response.id"
    FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
    INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
    CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
    CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
    REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
    ERROR_TYPE: Final = "error.type"
    SESSION_ID: Final = "session.id"
    USER_ID: Final = "user.id"
    AGENT_NAME: Final = "gen_ai.agent.name"
    FUNCTION_NAME: Final = "code.function.name"
    FUNCTION_SHA256: Final = "loopgrid.function.sha256"
    COMMIT: Final = "vcs.ref.head.revision"
    COMMIT_DIRTY: Final = "loopgrid.commit.dirty"
    PACKAGE_NAME: Final = "loopgrid.package.name"
    PACKAGE_VERSION: Final = "loopgrid.package.version"
    TAGS: Final = "loopgrid.tags"
    METADATA_PREFIX: Final = "loopgrid.metadata."
    LOSSINESS: Final = "loopgrid.capture.lossiness"
    PRODUCER_ID: Final = "loopgrid.producer.id"
    PRODUCER_SEQ: Final = "loopgrid.producer.seq"
    REPLAY_ID: Final = "loopgrid.replay.id"
    REPLAY_OF: Final = "loopgrid.replay.of"
    LINK_TYPE: Final = "loopgrid.link.type"
    SERVICE_NAME: Final = "service.name"


class Effect(StrEnum):
    """What running a tool does to the world; a replay decides by it what may run again."""

    READ = "read"
    """It changes nothing."""
    IDEMPOTENT = "idempotent"
    """It changes something; running it twice leaves what running it once does."""
    WRITE = "write"
    """It changes something each time, and that can be undone."""
    IRREVERSIBLE = "irreversible"
    """What it does cannot be undone: a payment, a message to a customer."""


class ReportKey:
    """Names of the log records in which a producer speaks about itself."""

    STARTED_EVENT: Final = "loopgrid.decision.started"
    """A decision that started and has not ended; carries the attributes it started with."""
    REPORT_EVENT: Final = "loopgrid.producer.report"
    """The producer's counters since it started, and the last sequence number it took."""
    LAST_SEQ: Final = "loopgrid.producer.last_seq"
    COUNT_PREFIX: Final = "loopgrid.producer.count."


class JudgementKey:
    """Names of the log records in which judgement and outcomes travel (``docs/spec/wire.md``)."""

    EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
    """What somebody says about a decision."""
    NAME: Final = "gen_ai.evaluation.name"
    LABEL: Final = "gen_ai.evaluation.score.label"
    VALUE: Final = "gen_ai.evaluation.score.value"
    EXPLANATION: Final = "gen_ai.evaluation.explanation"
    EVALUATOR_TYPE: Final = "loopgrid.evaluator.type"
    EVALUATOR_ID: Final = "loopgrid.evaluator.id"
    DECISION_ID: Final = "loopgrid.decision.id"
    JUDGEMENT_ID: Final = "loopgrid.judgement.id"
    JUDGEMENT_EVENT: Final = "loopgrid.judgement.event"
    SUBJECT_ID: Final = "loopgrid.judgement.subject_id"
    CATEGORY: Final = "loopgrid.judgement.category"
    SEVERITY: Final = "loopgrid.judgement.severity"
    POSITION: Final = "loopgrid.judgement.position"
    CORRECTION_OUTPUT: Final = "loopgrid.correction.output"
    LEDGER_ID: Final = "loopgrid.ledger.id"
    OUTCOME_EVENT: Final = "loopgrid.outcome"
    """What became of a thing, by the business key that decisions about it state."""
    OUTCOME_KEY: Final = "loopgrid.outcome.key"
    OUTCOME_KEY_VALUE: Final = "loopgrid.outcome.value"
    OUTCOME: Final = "loopgrid.outcome.result"


SEMCONV_MODEL_PARAMETERS: Final = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "frequency_penalty",
        "presence_penalty",
        "max_tokens",
        "seed",
        "stop_sequences",
    }
)
"""Model parameters that OpenTelemetry names ``gen_ai.request.<name>``. All others travel together
in ``loopgrid.model.parameters`` as one JSON object, so that no ``gen_ai.*`` name is invented."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the decision record.

    Attributes:
        column: name of the column in the SQL view ``decisions``.
        path: where the field stands in the API's JSON object; dots nest.
        sql_type: DuckDB type of the column. ``JSON`` columns hold JSON text that always parses.
        meaning: one line for people.
    """

    column: str
    path: str
    sql_type: str
    meaning: str


FIELDS: Final[tuple[Field, ...]] = (
    Field("decision_id", "decision_id", "VARCHAR", "`<trace_id>-<span_id>`, lower-case hex"),
    Field("trace_id", "trace_id", "VARCHAR", "trace the decision belongs to, 32 hex digits"),
    Field("span_id", "span_id", "VARCHAR", "span that is the decision, 16 hex digits"),
    Field("parent_span_id", "parent_span_id", "VARCHAR", "span it ran in, where there is one"),
    Field("kind", "kind", "VARCHAR", "`decision` (ours) or `inference` (a model call seen by another instrumentation)"),
    Field("dialect", "dialect", "VARCHAR", "attribute convention the span speaks"),
    Field("decision_type", "decision_type", "VARCHAR", "which decision this is, chosen by the application; low cardinality"),
    Field("service_name", "service_name", "VARCHAR", "`service.name` of the emitting process"),
    Field("status", "status", "VARCHAR", "`ok`, `error`, or null where the span did not say"),
    Field("input", "input", "JSON", "what the decision saw: arguments by name, or a list of messages"),
    Field("output", "output", "JSON", "what was decided: return value, or a list of messages"),
    Field("prompt_name", "prompt.name", "VARCHAR", "name of the prompt"),
    Field("prompt_version", "prompt.version", "VARCHAR", "version of the prompt"),
    Field("prompt_template", "prompt.template", "VARCHAR", "text of the prompt before its variables were filled in"),
    Field("prompt_variables", "prompt.variables", "JSON", "values filled into the template, by name, as text"),
    Field("model_provider", "model.provider", "VARCHAR", "who served the model, as OpenTelemetry spells it"),
    Field("model_name", "model.name", "VARCHAR", "model that was asked for"),
    Field("model_response_name", "model.response_name", "VARCHAR", "model that answered"),
    Field("model_parameters", "model.parameters", "JSON", "sampling and other request parameters, by name"),
    Field("tools", "tools", "JSON", "tool definitions offered to the model"),
    Field("input_tokens", "usage.input_tokens", "BIGINT", "tokens read, cached ones included"),
    Field("output_tokens", "usage.output_tokens", "BIGINT", "tokens written, reasoning included"),
    Field("cache_read_tokens", "usage.cache_read_tokens", "BIGINT", "part of input_tokens served from a cache"),
    Field("cache_write_tokens", "usage.cache_write_tokens", "BIGINT", "part of input_tokens written to a cache"),
    Field("reasoning_tokens", "usage.reasoning_tokens", "BIGINT", "part of output_tokens spent on reasoning"),
    Field("model_source", "model_source", "VARCHAR", "`stated` (on the span itself) or `steps` (what the model calls inside the decision agree on)"),
    Field("usage_source", "usage_source", "VARCHAR", "`stated` (on the span itself) or `steps` (sum over the model calls inside the decision, each counted once)"),
    Field("cost_usd", "cost_usd", "DOUBLE", "US dollars, as the sender states them"),
    Field("finish_reasons", "finish_reasons", "VARCHAR[]", "why the model stopped, one per choice: stop, length, tool_call, content_filter, error"),
    Field("response_id", "response_id", "VARCHAR", "the provider's id of the response"),
    Field("error_type", "error.type", "VARCHAR", "class or code of the failure"),
    Field("error_message", "error.message", "VARCHAR", "text of the failure"),
    Field("session_id", "session_id", "VARCHAR", "conversation or session"),
    Field("user_id", "user_id", "VARCHAR", "end user on whose behalf it was decided"),
    Field("agent_name", "agent_name", "VARCHAR", "agent that decided"),
    Field("function", "function", "VARCHAR", "decorated function, `module.qualified_name`"),
    Field("tags", "tags", "VARCHAR[]", "free labels"),
    Field("metadata", "metadata", "JSON", "free facts by name"),
    Field("started_at", "started_at", "TIMESTAMP", "start, UTC, microseconds"),
    Field("duration_ms", "duration_ms", "DOUBLE", "milliseconds from start to end"),
    Field("incorrect", "incorrect", "BOOLEAN", "somebody marked the decision incorrect"),
    Field("corrected", "corrected", "BOOLEAN", "a correction is attached"),
    Field("replay_id", "replay_id", "VARCHAR", "replay that produced this decision; null in production"),
    Field("replay_of", "replay_of", "VARCHAR", "decision that was replayed; null in production"),
    Field("replayability", "replayability", "VARCHAR", "`rebuildable` (its function can run again), `approximate` (messages kept) or `none`"),
    Field("lossiness", "lossiness", "VARCHAR[]", "what is known to be missing from the record, and why"),
    Field("producer_id", "producer.id", "VARCHAR", "process that emitted it"),
    Field("producer_seq", "producer.seq", "BIGINT", "gap-free count within that process"),
    Field("record_version", "record_version", "BIGINT", "version of the decision record; null for other dialects"),
    Field("mapping_version", "mapping_version", "INTEGER", "version of the mapping from attributes to this record"),
    Field("recorded_at", "recorded_at", "TIMESTAMP", "when the commit that holds it was made"),
    Field("commit_id", "commit_id", "BIGINT", "commit that holds it"),
    Field("digest", "digest", "VARCHAR", "SHA-256 of the record, hex (docs/spec/ledger.md)"),
)
"""Every field, in the order of the view ``decisions``."""

_DECISION_ID = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}")
_REPLAY_ID = re.compile(r"rpl_[0-9a-f]{32}")


def format_decision_id(trace_id: int, span_id: int) -> str:
    """The decision id of a span: ``<trace_id>-<span_id>``, lower-case hex, 49 characters."""
    return f"{trace_id:032x}-{span_id:016x}"


def parse_decision_id(text: str) -> tuple[int, int]:
    """Trace and span id of a decision id.

    Raises:
        ValueError: the text is not 32 lower-case hex digits, a hyphen and 16 more.
    """
    if _DECISION_ID.fullmatch(text) is None:
        raise ValueError(
            "a decision id is 32 lower-case hex digits, a hyphen and 16 more "
            "(<trace_id>-<span_id>)"
        )
    return int(text[:32], 16), int(text[33:], 16)


def is_replay_id(text: str) -> bool:
    """Whether the text has the form of a replay id, ``rpl_`` and 32 lower-case hex digits."""
    return _REPLAY_ID.fullmatch(text) is not None


_RESULT_ID_SEED: Final = "loopgrid.replay.result:"


def replay_result_id(replay_id: str, attempt: int = 1) -> str:
    """The id of the decision that an attempt of a replay is recorded as.

    It follows from the attempt, so that one which is recorded twice, by whomever, is one decision.

    Args:
        replay_id: the replay.
        attempt: which of its attempts, from 1.
    """
    seed = f"{_RESULT_ID_SEED}{replay_id}" + (f":{attempt}" if attempt > 1 else "")
    digest = hashlib.sha256(seed.encode()).digest()
    return format_decision_id(int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1)
