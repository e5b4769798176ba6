-- Every SQL statement of this package. It reads the public views (docs/spec/ledger.md) and the
-- catalogue's list of them, and writes nothing.
--
-- `-- name: <name>` begins a statement, the comment under it says what it is for. {filters} stands
-- for conditions joined by AND, each of them a statement named filter_… below.

-- name: decision
-- One decision.
SELECT * FROM decisions WHERE decision_id = $decision_id;

-- name: list_decisions
-- A page of decisions, newest first.
SELECT * FROM decisions
WHERE {filters}
ORDER BY started_at DESC NULLS LAST, decision_id DESC
LIMIT $limit;

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

-- name: span_place
-- What a span is, and the decision it ran in.
SELECT spans.kind AS kind, steps.owner_decision_id AS owner_decision_id
FROM spans
LEFT JOIN steps ON steps.decision_id = spans.trace_id || '-' || spans.span_id
WHERE spans.trace_id = $trace_id AND spans.span_id = $span_id;

-- name: trace_spans
-- Every span of a trace in order of time, with the content of its decisions and model calls.
SELECT
    spans.trace_id || '-' || spans.span_id                             AS decision_id,
    spans.span_id                                                      AS span_id,
    spans.parent_span_id                                               AS parent_span_id,
    steps.owner_decision_id                                            AS owner_decision_id,
    spans.kind                                                         AS kind,
    spans.dialect                                                      AS dialect,
    spans.name                                                         AS name,
    spans.service_name                                                 AS service_name,
    spans.status                                                       AS status,
    spans.status_message                                               AS status_message,
    spans.start_time                                                   AS started_at,
    CASE WHEN spans.start_ns > 0 AND spans.end_ns > 0
         THEN CAST(CAST(spans.end_ns AS HUGEINT) - CAST(spans.start_ns AS HUGEINT) AS DOUBLE) / 1e6
    END                                                                AS duration_ms,
    coalesce(decisions.model_name, steps.model_name)                   AS model_name,
    coalesce(decisions.input, steps.input)                             AS input,
    coalesce(decisions.output, steps.output)                           AS output,
    coalesce(decisions.input_tokens, steps.input_tokens)               AS input_tokens,
    coalesce(decisions.output_tokens, steps.output_tokens)             AS output_tokens
FROM spans
LEFT JOIN decisions ON decisions.decision_id = spans.trace_id || '-' || spans.span_id
LEFT JOIN steps ON steps.decision_id = spans.trace_id || '-' || spans.span_id
WHERE spans.trace_id = $trace_id
ORDER BY spans.start_ns, spans.position
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
