"""Where each field is taken from when several places state it, and how its value is read."""

from __future__ import annotations

import math

import orjson
import pytest

from tests.support.samples import span

CHAT = {"gen_ai.operation.name": "chat"}
OPENINFERENCE = {"openinference.span.kind": "LLM"}


def test_a_later_dialect_fills_gaps_only():
    found = span(
        {
            **CHAT,
            **OPENINFERENCE,
            "gen_ai.usage.input_tokens": 42,
            "llm.token_count.prompt": 41,
            "llm.token_count.completion": 17,
        }
    )

    assert (found.input_tokens, found.output_tokens) == (42, 17)


def test_an_empty_text_is_a_gap():
    assert span({**CHAT, "gen_ai.provider.name": "", "gen_ai.system": "openai"}).model_provider == "openai"


def test_the_requested_model_of_a_dual_emission_is_not_the_one_that_answered():
    found = span(
        {
            **CHAT,
            **OPENINFERENCE,
            "gen_ai.request.model": "gpt-5-mini-2025-08-07",
            "llm.invocation_parameters": '{"model": "gpt-5-mini"}',
            "llm.model_name": "gpt-5-mini-2025-08-07",
        }
    )

    assert (found.model_name, found.model_response_name) == ("gpt-5-mini", "gpt-5-mini-2025-08-07")


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (0, 0),
        (7, 7),
        (7.0, 7),
        ("7", 7),
        (True, None),
        (7.5, None),
        (math.nan, None),
        (math.inf, None),
        ("many", None),
        ("", None),
        ([7], None),
    ],
)
def test_a_token_count_is_a_whole_number_or_nothing(value, tokens):
    assert span({**CHAT, "gen_ai.usage.input_tokens": value}).input_tokens == tokens


@pytest.mark.parametrize(
    ("value", "tokens"), [(7, 7), (0, 0), ("7", 7), (True, None), (7.5, None), (None, None), ([7], None)]
)
def test_a_token_count_inside_json_is_read_by_the_same_rule(value, tokens):
    usage = orjson.dumps({"input": value}).decode()

    found = span({"langfuse.observation.type": "generation", "langfuse.observation.usage_details": usage})

    assert found.input_tokens == tokens


@pytest.mark.parametrize(
    ("value", "provider"),
    [
        ("openai", "openai"),
        ("OpenAI", "openai"),
        ("openai.chat", "openai"),
        ("openai.responses", "openai"),
        ("az.ai.openai", "azure.ai.openai"),
        ("az.ai.inference", "azure.ai.inference"),
        ("vertex_ai", "gcp.vertex_ai"),
        ("google.generative-ai", "gcp.gemini"),
        ("google.vertex.chat", "gcp.vertex_ai"),
        ("gemini", "gcp.gemini"),
        ("xai.chat", "x_ai"),
        ("strands-agents", None),
        ("langchain", None),
        ("microsoft.agent_framework", None),
        ("my-own-server", "my-own-server"),
    ],
)
def test_a_provider_has_one_spelling_and_a_framework_is_none(value, provider):
    assert span({**CHAT, "gen_ai.provider.name": value}).model_provider == provider


@pytest.mark.parametrize(
    ("value", "reasons"),
    [
        (["stop"], ["stop"]),
        (["end_turn"], ["stop"]),
        (["stop_sequence"], ["stop"]),
        ("STOP", ["stop"]),
        ("FinishReason.STOP", ["stop"]),
        ('["stop"]', ["stop"]),
        (["max_tokens", "length"], ["length", "length"]),
        (["tool_calls"], ["tool_call"]),
        ("tool-calls", ["tool_call"]),
        (["tool_use"], ["tool_call"]),
        (["function_call"], ["tool_call"]),
        (["content-filter"], ["content_filter"]),
        (["SAFETY"], ["content_filter"]),
        (["refusal"], ["content_filter"]),
        (["error"], ["error"]),
        (["paused"], ["paused"]),
        ([""], None),
        ("", None),
        ([], None),
    ],
)
def test_finish_reasons_have_one_vocabulary(value, reasons):
    assert span({**CHAT, "gen_ai.response.finish_reasons": value}).finish_reasons == reasons


def test_the_reason_may_stand_in_an_attribute_of_the_singular():
    assert span({**CHAT, "gen_ai.response.finish_reason": "FinishReason.STOP"}).finish_reasons == ["stop"]


def test_what_is_not_a_finite_number_is_null_among_the_parameters():
    found = span({**CHAT, "gen_ai.request.temperature": math.nan, "gen_ai.request.top_p": 0.5})

    assert orjson.loads(found.model_parameters) == {"temperature": None, "top_p": 0.5}


def test_bytes_among_the_metadata_become_base64():
    found = span({"loopgrid.record.version": 1, "loopgrid.metadata.key": b"\x00\xff"})

    assert orjson.loads(found.metadata) == {"key": "AP8="}


def test_parameters_of_a_decision_are_put_together_again():
    found = span(
        {
            "loopgrid.record.version": 1,
            "gen_ai.request.model": "m",
            "gen_ai.request.temperature": 0.2,
            "loopgrid.model.parameters": '{"tool_choice": "auto", "logit_bias": {"50256": -100}}',
        }
    )

    assert orjson.loads(found.model_parameters) == {
        "temperature": 0.2,
        "tool_choice": "auto",
        "logit_bias": {"50256": -100},
    }


def test_parameters_are_absent_where_none_were_sent():
    assert span({**CHAT, "gen_ai.request.model": "m"}).model_parameters is None


def test_a_parameter_that_its_source_fills_in_by_itself_is_left_out_and_flagged():
    found = span(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.parameters": orjson.dumps(
                {"temperature": 1, "max_tokens": "Infinity", "top_p": 0.9}
            ).decode(),
        }
    )

    assert orjson.loads(found.model_parameters) == {"top_p": 0.9}
    assert "model_parameters:defaults_left_out" in found.lossiness


def test_prompt_fields_of_a_decision():
    found = span(
        {
            "loopgrid.record.version": 1,
            "gen_ai.prompt.name": "support",
            "gen_ai.prompt.version": "2",
            "loopgrid.prompt.template": "Hello {name}",
            "gen_ai.prompt.variable.name": "Ada",
        }
    )

    assert (found.prompt_name, found.prompt_version, found.prompt_template) == (
        "support",
        "2",
        "Hello {name}",
    )
    assert orjson.loads(found.prompt_variables) == {"name": "Ada"}


def test_metadata_is_put_together_from_single_keys_whatever_their_names():
    found = span(
        {"loopgrid.record.version": 1, 'loopgrid.metadata.a "b"\n': 1, "loopgrid.metadata.c": [True, None]}
    )

    assert orjson.loads(found.metadata) == {'a "b"\n': 1, "c": [True, None]}


def test_associations_become_session_user_and_metadata():
    found = span(
        {
            "traceloop.span.kind": "task",
            "traceloop.association.properties.session_id": "s",
            "traceloop.association.properties.user_id": "u",
            "traceloop.association.properties.tenant": "acme",
        }
    )

    assert (found.session_id, found.user_id) == ("s", "u")
    assert orjson.loads(found.metadata) == {"tenant": "acme"}


@pytest.mark.parametrize(
    ("value", "tags"), [(["a", "b"], ["a", "b"]), ('["a","b"]', ["a", "b"]), ("a, b", ["a", "b"]), ([], None)]
)
def test_tags_may_be_a_list_json_or_words(value, tags):
    assert span({"loopgrid.record.version": 1, "loopgrid.tags": value}).tags == tags


def test_a_name_that_is_common_elsewhere_counts_for_its_own_dialect_only():
    """`metadata`, `model` and `agent_name` are anybody's keys."""
    found = span({**CHAT, "metadata": '{"a": 1}', "model": '"m"', "agent_name": "x", "model_name": "y"})

    assert (found.metadata, found.model_name, found.agent_name) == (None, None, None)


def test_producer_and_replay_are_read_from_a_decision():
    found = span(
        {
            "loopgrid.record.version": 1,
            "loopgrid.producer.id": "p",
            "loopgrid.producer.seq": 3,
            "loopgrid.replay.id": "rpl_" + "0" * 32,
            "loopgrid.replay.of": "d",
        }
    )

    assert (found.producer_id, found.producer_seq, found.record_version) == ("p", 3, 1)
    assert (found.replay_id, found.replay_of) == ("rpl_" + "0" * 32, "d")


def test_the_function_is_that_of_a_decision_and_of_no_other_span():
    name = {"code.function.name": "app.reply"}

    assert span({"loopgrid.record.version": 1, **name}).function == "app.reply"
    assert span({**CHAT, **name}).function is None


@pytest.mark.parametrize(
    ("attributes", "grade"),
    [
        ({"loopgrid.decision.input": "{}", "code.function.name": "app.reply"}, "rebuildable"),
        ({"loopgrid.decision.input": "", "code.function.name": "app.reply"}, "none"),
        ({"loopgrid.decision.input": '{"a": 1}', "code.function.name": "app.reply"}, "rebuildable"),
        ({"loopgrid.decision.input": '{"a": 1}'}, "none"),
        ({**CHAT, "gen_ai.request.model": "m", "gen_ai.prompt.0.content": "hi"}, "approximate"),
        ({**CHAT, "gen_ai.prompt.0.content": "hi"}, "none"),
        ({**CHAT, "gen_ai.request.model": "m"}, "none"),
        (
            {
                **CHAT,
                "gen_ai.request.model": "m",
                "gen_ai.prompt.0.content": "hi",
                "gen_ai.request.previous_response.id": "resp_1",
            },
            "none",
        ),
        ({"http.request.method": "GET"}, "none"),
    ],
)
def test_how_a_decision_can_be_replayed(attributes, grade):
    assert span(attributes).replayability == grade


@pytest.mark.parametrize(
    ("losses", "grade"),
    [
        (["input.message:truncated:20"], "none"),
        (["output:truncated:20", "input:not_bound"], "none"),
        (["output:truncated:20"], "rebuildable"),
        ([], "rebuildable"),
    ],
)
def test_a_decision_whose_input_is_incomplete_cannot_be_rebuilt(losses, grade):
    call = {
        "loopgrid.record.version": 1,
        "loopgrid.decision.input": '{"message": "I was"}',
        "code.function.name": "app.reply",
    }

    assert span({**call, "loopgrid.capture.lossiness": losses}).replayability == grade
