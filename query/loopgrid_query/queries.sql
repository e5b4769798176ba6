-- Every SQL statement of this package. It reads the public views, the ledger's look-up views (names that
-- end in _rows, docs/spec/ledger.md) and the catalogue's list of views, and writes nothing.
--
-- `-- name: <name>` begins a statement, the comment under it says what it is for. {filters} stands
-- for conditions joined by AND, each of them a statement named filter_… below.

-- name: record
-- One span as a decision record, by its physical key: a look-up by the text of its id reads every row.
SELECT d.* EXCLUDE (trace_key, span_key, start_key)
FROM store.record_rows AS d
WHERE d.trace_key = CAST($trace_key AS UUID) AND d.span_key = CAST($span_key AS UBIGINT);

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

-- name: filter_all
-- No condition.
true

-- name: filter_decision_type
decision_type = $decision_type

-- name: filter_service_name
service_name = $service_name

-- name: filter_model
-- The model that was asked for, or the one that answered.
(model_name = $model OR model_response_name = $model)

-- name: filter_prompt_name
prompt_name = $prompt_name

-- name: filter_prompt_version
prompt_version = $prompt_version

-- name: filter_kind
kind = $kind

-- name: filter_status
status = $status

-- name: filter_session_id
session_id = $session_id

-- name: filter_user_id
user_id = $user_id

-- name: filter_from
started_at >= $from

-- name: filter_to
started_at < $to

-- name: filter_incorrect
incorrect = $incorrect

-- name: filter_corrected
corrected = $corrected

-- name: filter_q
-- Content is JSON text, in which a letter may stand as itself or escaped.
(   contains(lower(CAST(input AS VARCHAR)), lower($q_plain))
 OR contains(lower(CAST(output AS VARCHAR)), lower($q_plain))
 OR contains(lower(CAST(input AS VARCHAR)), lower($q_escaped))
 OR contains(lower(CAST(output AS VARCHAR)), lower($q_escaped)))

-- name: filter_metadata
-- One fact; {n} numbers the facts of a request. The key is a JSON pointer.
json_extract_string(metadata, $metadata_key_{n}) = $metadata_value_{n}

-- name: filter_production
-- Without the decisions that replays made.
replay_id IS NULL

-- name: filter_after
-- What comes after the cursor's decision.
(started_at < $after_started_at
 OR (started_at = $after_started_at AND decision_id < $after_decision_id)
 OR started_at IS NULL)

-- name: filter_after_undated
-- What comes after the cursor's decision, when that one has no start.
(started_at IS NULL AND decision_id < $after_decision_id)

-- name: decision_marks
-- The marks of a decision, oldest first.
SELECT mark_id, decision_id, reason, marked_by, recorded_at, commit_id, digest
FROM marks WHERE decision_id = $decision_id ORDER BY commit_id, mark_id;

-- name: mark
-- One mark.
SELECT mark_id, decision_id, reason, marked_by, recorded_at
FROM marks WHERE mark_id = $mark_id;

-- name: decision_corrections
-- The corrections of a decision, oldest first.
SELECT correction_id, decision_id, output, corrected_by, reason, supersedes, recorded_at, commit_id, digest
FROM corrections WHERE decision_id = $decision_id ORDER BY commit_id, correction_id;

-- name: correction
-- One correction.
SELECT correction_id, decision_id, output, corrected_by, reason, supersedes, recorded_at
FROM corrections WHERE correction_id = $correction_id;

-- name: decision_ground_truth
-- The effective correction of a decision.
SELECT decision_id, output, correction_id, corrected_by, recorded_at
FROM ground_truth WHERE decision_id = $decision_id;

-- name: decision_replays
-- The replays of a decision, oldest first.
SELECT replay_id, decision_id, executor, overrides, status, reason, result_decision_id, requested_by,
       idempotency_key, requested_at, completed_at, commit_id
FROM replays WHERE decision_id = $decision_id ORDER BY commit_id, replay_id;

-- name: replay
-- One replay.
SELECT replay_id, decision_id, executor, overrides, status, reason, result_decision_id, requested_by,
       idempotency_key, requested_at, completed_at, commit_id
FROM replays WHERE replay_id = $replay_id;

-- name: replay_by_key
-- The replay that was requested under an idempotency key.
SELECT replay_id FROM replays WHERE idempotency_key = $idempotency_key ORDER BY commit_id LIMIT 1;

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

-- name: last_commit
-- The newest commit: that the ledger answers.
SELECT max(commit_id) AS commit_id FROM commits;

-- name: catalogue
-- The views that a client's statement may read, and those of DuckDB that a bare name could reach.
SELECT current_database() AS database, view_name AS name, internal
FROM duckdb_views()
WHERE (internal AND schema_name IN ('main', 'pg_catalog'))
   OR (NOT internal AND schema_name = 'main' AND database_name = current_database());

-- name: syntax
-- A statement's syntax as JSON; a parser error is part of the answer.
SELECT json_serialize_sql($statement) AS syntax;
