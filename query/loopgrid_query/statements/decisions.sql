-- name: record
-- One span as a decision record, by where its row lies: any other look-up touches every row group.
SELECT d.* EXCLUDE (trace_key, span_key, start_key, place_key)
FROM store.record_rows AS d
WHERE d.place_key = CAST($place AS BIGINT);

-- name: plain_record
-- The same record at half of the price, if it holds: says_cost is false, and so is what `spoken_of` tells.
SELECT * EXCLUDE (trace_key, span_key, place_key)
FROM store.plain_rows
WHERE place_key = CAST($place AS BIGINT);

-- name: spoken_of
-- Where a span lies, whether entries say anything of it, and whether logs add content to it.
SELECT
    (
        -- Trace ids are compared where the span id fits: as a condition they are read of more spans, a third dearer.
        SELECT min(place_key) FILTER (WHERE trace_key = CAST($trace_key AS UUID)) FROM store.candidate_rows
        WHERE span_key = CAST($span_key AS UBIGINT)
    ) AS place,
    EXISTS (
        SELECT 1 FROM store.said_rows
        WHERE trace_id = CAST($trace_key AS UUID) AND span_id = CAST($span_key AS UBIGINT)
    ) AS entries,
    EXISTS (
        SELECT 1 FROM store.logged_rows
        WHERE trace_key = CAST($trace_key AS UUID) AND span_key = CAST($span_key AS UBIGINT)
    ) AS logs;

-- name: owner
-- The nearest decision above a span, found by walking up its own trace.
WITH RECURSIVE above AS (
    SELECT span_key, parent_key, kind, 0 AS depth
    FROM store.tree_rows
    WHERE trace_key = CAST($trace_key AS UUID) AND span_key = CAST($span_key AS UBIGINT)
    UNION
    SELECT parent.span_key, parent.parent_key, parent.kind, above.depth + 1
    FROM above
    JOIN store.tree_rows AS parent ON parent.span_key = above.parent_key
    WHERE parent.trace_key = CAST($trace_key AS UUID)
      AND (above.depth = 0 OR above.kind <> 'decision')
      AND above.depth < $max_depth
)
SELECT format('{:016x}', span_key) AS span_id
FROM above WHERE depth > 0 AND kind = 'decision' ORDER BY depth LIMIT 1;

-- name: page_reach
-- How far back the newest candidates reach: conditions on start_key pass over whole row groups.
SELECT min(start_key) AS start_key, count(*) AS spans
FROM (
    SELECT start_key
    FROM store.candidate_rows
    WHERE kind IN ('decision', 'inference') AND start_key >= CAST($floor AS UBIGINT) AND start_key <= CAST($ceiling AS UBIGINT)
      AND {filters}
    ORDER BY start_key DESC
    LIMIT $reach
);

-- name: page_reach_back
-- The same towards the newest.
SELECT max(start_key) AS start_key, count(*) AS spans
FROM (
    SELECT start_key
    FROM store.candidate_rows
    WHERE kind IN ('decision', 'inference') AND start_key >= CAST($floor AS UBIGINT) AND start_key <= CAST($ceiling AS UBIGINT)
      AND {filters}
    ORDER BY start_key
    LIMIT $reach
);

-- name: page_candidates
-- Spans that may be decisions, in the order of a page; which of them are steps is not looked at.
SELECT
    CAST(trace_key AS VARCHAR) AS trace_key, span_key, place_key, kind, decision_id, started_at,
    model_source, model_name, model_response_name
FROM store.candidate_rows
WHERE kind IN ('decision', 'inference') AND start_key >= CAST($floor AS UBIGINT) AND start_key <= CAST($ceiling AS UBIGINT)
  AND {filters}
ORDER BY started_at DESC NULLS LAST, decision_id DESC
LIMIT $limit;

-- name: page_candidates_back
-- The same, oldest first.
SELECT
    CAST(trace_key AS VARCHAR) AS trace_key, span_key, place_key, kind, decision_id, started_at,
    model_source, model_name, model_response_name
FROM store.candidate_rows
WHERE kind IN ('decision', 'inference') AND start_key >= CAST($floor AS UBIGINT) AND start_key <= CAST($ceiling AS UBIGINT)
  AND {filters}
ORDER BY started_at NULLS FIRST, decision_id
LIMIT $limit;

-- name: page_candidates_text
-- The same where their content is looked into.
SELECT
    CAST(trace_key AS VARCHAR) AS trace_key, span_key, place_key, kind, decision_id, started_at,
    model_source, model_name, model_response_name
FROM store.record_rows
WHERE kind IN ('decision', 'inference') AND start_key >= CAST($floor AS UBIGINT) AND start_key <= CAST($ceiling AS UBIGINT)
  AND {filters}
ORDER BY started_at DESC NULLS LAST, decision_id DESC
LIMIT $limit;

-- name: page_candidates_text_back
-- The same where their content is looked into, oldest first.
SELECT
    CAST(trace_key AS VARCHAR) AS trace_key, span_key, place_key, kind, decision_id, started_at,
    model_source, model_name, model_response_name
FROM store.record_rows
WHERE kind IN ('decision', 'inference') AND start_key >= CAST($floor AS UBIGINT) AND start_key <= CAST($ceiling AS UBIGINT)
  AND {filters}
ORDER BY started_at NULLS FIRST, decision_id
LIMIT $limit;

-- name: page_keys
-- Keys of a page, where it takes looking at every span to say which are steps.
SELECT CAST(trace_key AS VARCHAR) AS trace_key, span_key, place_key, decision_id, started_at
FROM store.completed_rows
WHERE {filters}
ORDER BY started_at DESC NULLS LAST, decision_id DESC
LIMIT $limit;

-- name: page_keys_back
-- The same, oldest first.
SELECT CAST(trace_key AS VARCHAR) AS trace_key, span_key, place_key, decision_id, started_at
FROM store.completed_rows
WHERE {filters}
ORDER BY started_at NULLS FIRST, decision_id
LIMIT $limit;

-- name: page_records
-- Decisions by where their rows lie.
SELECT * EXCLUDE (trace_key, span_key, start_key)
FROM store.record_rows
WHERE {filters};

-- name: trace_places
-- Where the spans of some traces lie. Asked for nothing else, this reads one column.
SELECT place_key
FROM store.relative_rows
WHERE trace_key IN (SELECT unnest(CAST($traces AS UUID[])))
ORDER BY place_key
LIMIT $limit;

-- name: response_traces
-- Traces with a call of these response ids in some time; an unknown end (before its start) is asked apart.
SELECT
    CAST(trace_key AS VARCHAR)         AS trace_key,
    min(start_ns)                      AS since,
    max(greatest(start_ns, end_ns))    AS until
FROM (
    SELECT trace_key, start_ns, end_ns
    FROM store.relative_rows
    WHERE response_id IN (SELECT unnest(CAST($responses AS VARCHAR[]))) AND kind IN ('decision', 'inference')
      AND start_ns <= CAST($until AS UBIGINT) AND end_ns >= CAST($since AS UBIGINT)
    UNION ALL
    SELECT trace_key, start_ns, end_ns
    FROM store.relative_rows
    WHERE response_id IN (SELECT unnest(CAST($responses AS VARCHAR[]))) AND kind IN ('decision', 'inference')
      AND start_ns <= CAST($until AS UBIGINT) AND start_ns >= CAST($since AS UBIGINT) AND end_ns < CAST($since AS UBIGINT)
)
GROUP BY trace_key
LIMIT $limit;

-- name: relatives
-- Spans by where they lie, with what decisions take from the spans around them.
SELECT
    relative.* EXCLUDE (trace_key, place_key, has_input, has_output),
    CAST(relative.trace_key AS VARCHAR)                                                AS trace_key,
    CAST(relative.has_input OR coalesce(logged.has_input, false) AS INTEGER)
        + CAST(relative.has_output OR coalesce(logged.has_output, false) AS INTEGER)  AS spoken
FROM (
    SELECT *
    FROM store.relative_rows
    WHERE {filters}
) AS relative
LEFT JOIN (
    SELECT trace_key, span_key, bool_or(has_input) AS has_input, bool_or(has_output) AS has_output
    FROM store.logged_rows
    WHERE trace_key IN (SELECT unnest(CAST($traces AS UUID[])))
    GROUP BY trace_key, span_key
) AS logged ON logged.trace_key = relative.trace_key AND logged.span_key = relative.span_key
ORDER BY relative.start_ns, relative.span_key;

-- name: kin
-- What decisions take from the spans around them; reads every span on record.
SELECT CAST(trace_key AS VARCHAR) AS trace_key, * EXCLUDE (trace_key)
FROM store.kin_rows
WHERE list_contains(CAST($traces AS UUID[]), trace_key);

-- name: span_start
-- When a span that is stored already began, nanoseconds since 1970.
SELECT start_ns FROM spans WHERE trace_id = $trace_id AND span_id = $span_id;

-- name: trace_spans
-- Every span of a trace in order of time, as a decision record.
SELECT
    d.decision_id,
    d.span_id,
    d.parent_span_id,
    d.kind,
    d.dialect,
    s.name            AS name,
    d.service_name,
    d.status,
    s.status_message  AS status_message,
    d.started_at,
    d.duration_ms,
    d.model_name,
    d.input,
    d.output,
    d.input_tokens,
    d.output_tokens,
    d.cache_read_tokens,
    d.cache_write_tokens,
    d.reasoning_tokens
FROM store.record_rows AS d
JOIN store.tree_rows AS s ON s.trace_key = d.trace_key AND s.span_key = d.span_key
WHERE d.trace_key = CAST($trace_key AS UUID) AND s.trace_key = CAST($trace_key AS UUID)
ORDER BY s.start_ns, s.position
LIMIT $limit;

-- name: decorated_steps
-- Spans of a trace with what @step and @tool recorded of them, in order of time.
SELECT
    format('{:016x}', span_id)                                             AS span_id,
    format('{:016x}', parent_span_id)                                      AS parent_span_id,
    json_extract_string(attributes, '$."loopgrid.step.name"')              AS step_name,
    CASE WHEN json_extract_string(attributes, '$."loopgrid.tool.effect"') IS NOT NULL
        THEN json_extract_string(attributes, '$."gen_ai.tool.name"') END   AS tool_name,
    json_extract_string(attributes, '$."loopgrid.tool.effect"')            AS effect,
    coalesce(
        json_extract_string(attributes, '$."loopgrid.step.input"'),
        json_extract_string(attributes, '$."gen_ai.tool.call.arguments"')
    )                                                                      AS arguments,
    coalesce(
        json_extract_string(attributes, '$."loopgrid.step.output"'),
        json_extract_string(attributes, '$."gen_ai.tool.call.result"')
    )                                                                      AS result,
    kind,
    status_code,
    error_type,
    coalesce(error_message, status_message)                                AS error_message,
    lossiness
FROM store.span_rows
WHERE trace_id = CAST($trace_key AS UUID)
ORDER BY start_ns, position
LIMIT $limit;
