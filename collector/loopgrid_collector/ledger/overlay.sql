-- Run after the views in a ledger that holds renormalised rows (`loopgrid renormalize`): the newest row of a span
-- takes the place of what the dialects made of it when it came. A union, and not one join with a choice per
-- column, so that conditions reach the scans. Columns and their order are those of store.spans.
CREATE OR REPLACE VIEW store.overlay_rows AS
SELECT * EXCLUDE (recorded_at, commit_id)
FROM store.renormalised
QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY commit_id DESC) = 1;

CREATE OR REPLACE VIEW store.span_rows AS
SELECT s.*
FROM store.spans AS s
ANTI JOIN store.renormalised AS r ON r.trace_id = s.trace_id AND r.span_id = s.span_id
UNION ALL BY NAME
SELECT
    s.* EXCLUDE (
        mapping_version, kind, dialect, decision_type, service_name, input, input_ref, system_ref, output, output_ref,
        prompt_name, prompt_version, prompt_template, prompt_variables, model_provider, model_name,
        model_response_name, model_parameters, tools, tools_ref, input_tokens, output_tokens, cache_read_tokens,
        cache_write_tokens, reasoning_tokens, finish_reasons, response_id, error_type, error_message, session_id,
        user_id, agent_name, "function", tags, metadata, replay_id, replay_of, replayability, lossiness,
        producer_id, producer_seq, record_version
    ),
    r.* EXCLUDE (trace_id, span_id)
FROM store.spans AS s
JOIN store.overlay_rows AS r ON r.trace_id = s.trace_id AND r.span_id = s.span_id;
