-- One row per decision: decorated, recorded, or a model call that no such decision contains.
CREATE OR REPLACE VIEW main.decisions AS
SELECT * EXCLUDE (trace_key, span_key, start_key, place_key)
FROM store.completed_rows;

-- Decisions that may be the same model call as the one before, with no sign that proves it: the same service, model
-- and input at overlapping times, or at most a tenth of a second later. Sums over decisions count both. Logfire records
-- a stream's answer in a span of no length at its end, and says beside it how long it took.
CREATE OR REPLACE VIEW main.possible_duplicates AS
WITH calls AS (
    SELECT
        d.decision_id,
        d.service_name,
        coalesce(d.model_name, d.model_response_name) AS model,
        hash(CAST(d.input AS VARCHAR))                AS input_hash,
        s.scope,
        s.position,
        greatest(s.start_ns, s.end_ns)                AS end_ns,
        CAST(s.start_ns AS HUGEINT) - CASE WHEN json_extract_string(s.attributes, '$."logfire.span_type"') = 'log'
            THEN coalesce(TRY_CAST(1e9 * TRY_CAST(json_extract_string(s.attributes, '$.duration') AS DOUBLE) AS HUGEINT), 0)
            ELSE 0 END                                AS start_ns
    FROM store.record_rows AS d
    JOIN store.span_rows AS s ON s.trace_id = d.trace_key AND s.span_id = d.span_key
    ANTI JOIN store.duplicate_rows AS twin ON twin.trace_key = d.trace_key AND twin.span_key = d.span_key
    WHERE d.kind = 'inference' AND d.input IS NOT NULL
),
following AS (
    SELECT *, arg_max({'decision_id': decision_id, 'end_ns': end_ns, 'scope': scope}, end_ns) OVER (
        PARTITION BY service_name, model, input_hash ORDER BY start_ns, position
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before
    FROM calls
)
SELECT
    decision_id,
    before.decision_id     AS possible_duplicate_of,
    service_name,
    model,
    scope = before.scope   AS same_scope
FROM following
WHERE start_ns <= before.end_ns + 100000000;

-- Agents and workflows below which no decision and no model call arrived: what they say about themselves is all
-- there is. They are not among the decisions, and their tokens are in no sum over decisions.
CREATE OR REPLACE VIEW main.aggregates AS
WITH RECURSIVE above AS (
    SELECT trace_id, parent_span_id AS span_id
    FROM store.span_rows
    WHERE kind IN ('decision', 'inference') AND parent_span_id IS NOT NULL
    UNION
    SELECT s.trace_id, s.parent_span_id
    FROM above
    JOIN store.span_rows AS s ON s.trace_id = above.trace_id AND s.span_id = above.span_id
    WHERE s.parent_span_id IS NOT NULL
),
alone AS (
    SELECT
        d.*,
        s.name,
        json_extract_string(s.attributes, [
            '$."gen_ai.usage.input_tokens"', '$."gen_ai.usage.prompt_tokens"', '$."gen_ai.aggregated_usage.input_tokens"',
            '$."ai.usage.inputTokens"', '$."ai.usage.promptTokens"', '$."llm.token_count.prompt"'
        ]) AS read,
        json_extract_string(s.attributes, [
            '$."gen_ai.usage.output_tokens"', '$."gen_ai.usage.completion_tokens"', '$."gen_ai.aggregated_usage.output_tokens"',
            '$."ai.usage.outputTokens"', '$."ai.usage.completionTokens"', '$."llm.token_count.completion"'
        ]) AS written
    FROM store.record_rows AS d
    JOIN store.span_rows AS s ON s.trace_id = d.trace_key AND s.span_id = d.span_key
    ANTI JOIN above ON above.trace_id = d.trace_key AND above.span_id = d.span_key
    WHERE d.kind = 'agent'
)
SELECT
    trace_id,
    span_id,
    name,
    dialect,
    service_name,
    agent_name,
    status,
    input,
    output,
    list_filter([TRY_CAST(said AS BIGINT) FOR said IN read], lambda tokens: tokens IS NOT NULL)[1]    AS input_tokens,
    list_filter([TRY_CAST(said AS BIGINT) FOR said IN written], lambda tokens: tokens IS NOT NULL)[1] AS output_tokens,
    session_id,
    user_id,
    started_at,
    duration_ms,
    recorded_at,
    commit_id
FROM alone;

-- One row per span, as received.
CREATE OR REPLACE VIEW main.spans AS
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '')                                      AS trace_id,
    format('{:016x}', span_id)                                                       AS span_id,
    format('{:016x}', parent_span_id)                                                AS parent_span_id,
    service_name,
    name,
    CASE span_kind WHEN 1 THEN 'internal' WHEN 2 THEN 'server' WHEN 3 THEN 'client'
                   WHEN 4 THEN 'producer' WHEN 5 THEN 'consumer' END                 AS span_kind,
    kind,
    dialect,
    CASE WHEN start_ns > 0 THEN make_timestamp(CAST(start_ns // 1000 AS BIGINT)) END AS start_time,
    CASE WHEN end_ns > 0 THEN make_timestamp(CAST(end_ns // 1000 AS BIGINT)) END     AS end_time,
    start_ns,
    end_ns,
    CASE status_code WHEN 1 THEN 'ok' WHEN 2 THEN 'error' END                        AS status,
    status_message,
    CAST(attributes AS JSON)                                                         AS attributes,
    json_extract(resource, '$.attributes')                                           AS resource,
    CAST(scope AS JSON)                                                              AS scope,
    CAST(events AS JSON)                                                             AS events,
    CAST(links AS JSON)                                                              AS links,
    trace_state,
    flags,
    dropped_attributes,
    dropped_events,
    dropped_links,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                                                               AS digest
FROM store.span_rows;

-- One row per span inside a decision. Sums over model calls leave out those that are a duplicate_of another.
CREATE OR REPLACE VIEW main.steps AS
SELECT
    replace(CAST(s.trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', s.span_id)           AS decision_id,
    replace(CAST(step.owner_trace_key AS VARCHAR), '-', '') || '-' || format('{:016x}', step.owner_key) AS owner_decision_id,
    step.depth,
    s.kind,
    s.name,
    s.dialect,
    s.service_name,
    CASE s.status_code WHEN 1 THEN 'ok' WHEN 2 THEN 'error' END                                    AS status,
    d.input,
    d.output,
    s.model_provider,
    s.model_name,
    s.model_response_name,
    s.input_tokens,
    s.output_tokens,
    s.cache_read_tokens,
    s.cache_write_tokens,
    s.reasoning_tokens,
    s.error_type,
    CASE WHEN s.start_ns > 0 THEN make_timestamp(CAST(s.start_ns // 1000 AS BIGINT)) END           AS started_at,
    CASE WHEN s.start_ns > 0 AND s.end_ns > 0
         THEN CAST(CAST(s.end_ns AS HUGEINT) - CAST(s.start_ns AS HUGEINT) AS DOUBLE) / 1e6 END    AS duration_ms,
    s.recorded_at,
    s.commit_id,
    replace(CAST(twin.twin_trace_key AS VARCHAR), '-', '') || '-' || format('{:016x}', twin.twin_key) AS duplicate_of
FROM store.step_rows AS step
JOIN store.span_rows AS s ON s.trace_id = step.trace_key AND s.span_id = step.span_key
JOIN store.record_rows AS d ON d.trace_key = step.trace_key AND d.span_key = step.span_key
LEFT JOIN store.duplicate_rows AS twin ON twin.trace_key = step.trace_key AND twin.span_key = step.span_key;

-- One row per OpenTelemetry event: log records, and events carried on spans.
CREATE OR REPLACE VIEW main.events AS
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '')                                      AS trace_id,
    format('{:016x}', span_id)                                                       AS span_id,
    'log'                                                                            AS source,
    event_name                                                                       AS name,
    CASE WHEN time_ns > 0 THEN make_timestamp(CAST(time_ns // 1000 AS BIGINT))
         WHEN observed_ns > 0 THEN make_timestamp(CAST(observed_ns // 1000 AS BIGINT)) END AS time,
    severity_number,
    severity_text,
    service_name,
    CAST(body AS JSON)                                                               AS body,
    CAST(attributes AS JSON)                                                         AS attributes,
    recorded_at,
    commit_id,
    lower(hex(digest))                                                               AS digest
FROM store.logs
UNION ALL
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', ''),
    format('{:016x}', span_id),
    'span',
    json_extract_string(event, '$.name'),
    make_timestamp(CAST(CAST(json_extract_string(event, '$.time_ns') AS UBIGINT) // 1000 AS BIGINT)),
    NULL,
    NULL,
    service_name,
    NULL,
    json_extract(event, '$.attributes'),
    recorded_at,
    commit_id,
    lower(hex(digest))
FROM (SELECT *, unnest(json_extract(events, '$[*]')) AS event FROM store.span_rows WHERE events IS NOT NULL);
