"""Our own dialect. What OpenTelemetry names as well stands in ``genai``."""

from __future__ import annotations

from typing import Final

from loopgrid.schema import Key, Kind
from loopgrid_collector.dialects.table import Content, Dialect, KindRule, Marks, Members, Source

LOOPGRID: Final = Dialect(
    name="loopgrid",
    marks=Marks(
        keys=(
            Key.RECORD_VERSION,
            Key.DECISION_INPUT,
            Key.DECISION_OUTPUT,
            Key.STEP_NAME,
            Key.TOOL_EFFECT,
        )
    ),
    kinds=(
        KindRule(Key.RECORD_VERSION, present=Kind.DECISION),
        KindRule(Key.DECISION_INPUT, present=Kind.DECISION),
        KindRule(Key.DECISION_OUTPUT, present=Kind.DECISION),
        # The type alone may also be said of a model call that another instrumentation recorded.
        KindRule(Key.DECISION_TYPE, present=Kind.DECISION, late=True),
    ),
    fields={
        "decision_type": (Source(Key.DECISION_TYPE),),
        "prompt_template": (Source(Key.PROMPT_TEMPLATE),),
        "tags": (Source(Key.TAGS, parser="labels"),),
        "lossiness": (Source(Key.LOSSINESS, parser="labels"),),
        "replay_id": (Source(Key.REPLAY_ID),),
        "replay_of": (Source(Key.REPLAY_OF),),
        "producer_id": (Source(Key.PRODUCER_ID),),
        "producer_seq": (Source(Key.PRODUCER_SEQ),),
        "record_version": (Source(Key.RECORD_VERSION),),
    },
    members={
        "model_parameters": (Members(key=Key.MODEL_PARAMETERS),),
        "metadata": (Members(prefix=Key.METADATA_PREFIX), Members(prefix=Key.BUSINESS_KEY_PREFIX)),
    },
    raw_input=(Content(Key.DECISION_INPUT), Content(Key.STEP_INPUT)),
    raw_output=(Content(Key.DECISION_OUTPUT), Content(Key.STEP_OUTPUT)),
)
