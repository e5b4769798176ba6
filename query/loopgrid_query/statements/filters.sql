-- name: filter_all
-- No condition.
true

-- name: filter_places
-- Rows by where they lie. Constants pass over whole row groups; in those that are read, the list alone keeps DuckDB
-- from taking every column of every row before it looks which rows were meant.
place_key IN ({places}) AND list_contains([{places}], place_key)

-- name: filter_places_many
-- The same of more rows than a list of constants is good for.
place_key IN (SELECT unnest(CAST($places AS BIGINT[]))) AND place_key >= $first AND place_key <= $last

-- name: filter_decision_type
decision_type = $decision_type

-- name: filter_service_name
service_name = $service_name

-- name: filter_model
-- The model that was asked for, or the one that answered.
(model_name = $model OR model_response_name = $model)

-- name: filter_model_unsaid
-- The same, or a decision that says no model itself and may take one from the calls inside.
(model_name = $model OR model_response_name = $model OR (kind = 'decision' AND model_source IS NULL))

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

-- name: filter_incorrect_span
-- The same of a span, by its physical key.
((trace_key, span_key) IN (
    SELECT (trace_key, span_key) FROM store.judged_rows WHERE incorrect)) = $incorrect

-- name: filter_corrected_span
((trace_key, span_key) IN (
    SELECT (trace_key, span_key) FROM store.judged_rows WHERE corrected)) = $corrected

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

-- name: filter_before
-- What comes before the cursor's decision.
(started_at > $after_started_at OR (started_at = $after_started_at AND decision_id > $after_decision_id))

-- name: filter_before_undated
-- What comes before the cursor's decision, when that one has no start.
(started_at IS NOT NULL OR decision_id > $after_decision_id)
