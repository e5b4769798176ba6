-- name: record
-- One span as a decision record, by its physical key: a look-up by the text of its id reads every row.
SELECT d.* EXCLUDE (trace_key, span_key, start_key)
FROM store.record_rows AS d
WHERE d.trace_key = CAST($trace_key AS UUID) AND d.span_key = CAST($span_key AS UBIGINT);

-- name: plain_record
-- The same record at half of the price, if it holds: says_cost is false, and so is what `spoken_of` tells.
SELECT * EXCLUDE (trace_key, span_key)
FROM store.plain_rows
WHERE trace_key = CAST($trace_key AS UUID) AND span_key = CAST($span_key AS UBIGINT);

-- name: spoken_of
-- Whether anything was said of a span in entries, and whether logs add content to it.
SELECT
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

-- name: page_keys
-- Keys of a page of decisions, newest first; asked for content, too, this would read that of every decision.
SELECT CAST(trace_key AS VARCHAR) AS trace_key, span_key, start_key
FROM store.decision_rows
WHERE {filters}
ORDER BY started_at DESC NULLS LAST, decision_id DESC
LIMIT $limit;

-- name: page_keys_completed
-- The same, where a filter is about what decisions take from the spans around them.
SELECT CAST(trace_key AS VARCHAR) AS trace_key, span_key, start_key
FROM store.completed_rows
WHERE {filters}
ORDER BY started_at DESC NULLS LAST, decision_id DESC
LIMIT $limit;

-- name: page_records
-- Decisions by their physical keys, and the few that share a key's half.
SELECT * EXCLUDE (trace_key, span_key, start_key), CAST(trace_key AS VARCHAR) AS trace_key, span_key
FROM store.record_rows
WHERE list_contains(CAST($spans AS UBIGINT[]), span_key) AND start_key >= $first AND start_key <= $last;

-- name: relatives
-- The spans of some traces, with what decisions take from the spans around them.
SELECT
    relative.* EXCLUDE (trace_key, has_input, has_output),
    CAST(relative.trace_key AS VARCHAR)                                                AS trace_key,
    CAST(relative.has_input OR coalesce(logged.has_input, false) AS INTEGER)
        + CAST(relative.has_output OR coalesce(logged.has_output, false) AS INTEGER)  AS spoken
FROM store.relative_rows AS relative
LEFT JOIN (
    SELECT trace_key, span_key, bool_or(has_input) AS has_input, bool_or(has_output) AS has_output
    FROM store.logged_rows
    WHERE trace_key >= CAST($first AS UUID) AND trace_key <= CAST($last AS UUID)
      AND list_contains(CAST($traces AS UUID[]), trace_key)
    GROUP BY trace_key, span_key
) AS logged ON logged.trace_key = relative.trace_key AND logged.span_key = relative.span_key
WHERE relative.trace_key >= CAST($first AS UUID) AND relative.trace_key <= CAST($last AS UUID)
  AND list_contains(CAST($traces AS UUID[]), relative.trace_key)
ORDER BY relative.start_ns, relative.span_key
LIMIT $limit;

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
