-- name: review_events
-- What happened to review queues after a position, in order.
SELECT entry_id, entry_type, review_id, decision_id, actor, body, position
FROM store.review_event_rows WHERE position > $after ORDER BY position;

-- name: review_sample_newest
-- The newest decisions that a filter finds.
SELECT decision_id, count(*) OVER () AS found
FROM store.completed_rows
WHERE {filters}
ORDER BY started_at DESC NULLS LAST, decision_id DESC
LIMIT $size;

-- name: review_sample_random
-- A random sample that the same seed draws again from the same decisions.
SELECT decision_id, count(*) OVER () AS found
FROM store.completed_rows
WHERE {filters}
ORDER BY sha256($seed || ':' || decision_id), decision_id
LIMIT $size;

-- name: review_sample_stratified
-- As many from each group as from the others, as far as it has them; random inside each.
WITH grouped AS (
    SELECT
        decision_id,
        sha256($seed || ':' || decision_id) AS draw,
        CASE $by
            WHEN 'service_name' THEN service_name
            WHEN 'decision_type' THEN decision_type
            WHEN 'model' THEN coalesce(model_response_name, model_name)
            WHEN 'prompt_name' THEN prompt_name
            WHEN 'prompt_version' THEN prompt_version
            WHEN 'kind' THEN kind
            WHEN 'status' THEN status
            WHEN 'session_id' THEN session_id
            WHEN 'user_id' THEN user_id
            WHEN 'agent_name' THEN agent_name
            ELSE json_extract_string(metadata, $fact)
        END AS stratum
    FROM store.completed_rows
    WHERE {filters}
)
SELECT decision_id, count(*) OVER () AS found
FROM grouped
ORDER BY row_number() OVER (PARTITION BY stratum ORDER BY draw, decision_id), sha256($seed || ':' || coalesce(stratum, '')), draw
LIMIT $size;

-- name: review_sample_disagreement
-- Decisions about which people, or two evaluations of one name, say different things; a person's newest word counts.
WITH said AS (
    SELECT decision_id, coalesce(lower(trim(said_by)), judgement_id) AS who, event, output, position
    FROM judgements
    WHERE event IN ('mark', 'approval', 'correction') AND NOT withdrawn
),
newest AS (
    SELECT decision_id, who, arg_max(event = 'approval', position) AS what FROM said GROUP BY ALL
),
outputs AS (
    SELECT decision_id, who, arg_max(CAST(output AS VARCHAR), position) AS output
    FROM said
    WHERE event = 'correction'
    GROUP BY ALL
),
disputed AS (
    SELECT decision_id FROM newest GROUP BY decision_id HAVING count(DISTINCT what) > 1
    UNION
    SELECT decision_id FROM outputs GROUP BY decision_id HAVING count(DISTINCT output) > 1
    UNION
    SELECT decision_id FROM evaluations WHERE label IS NOT NULL GROUP BY decision_id, name HAVING count(DISTINCT label) > 1
)
SELECT decision_id, count(*) OVER () AS found
FROM store.completed_rows SEMI JOIN disputed USING (decision_id)
WHERE {filters}
ORDER BY sha256($seed || ':' || decision_id), decision_id
LIMIT $size;

-- name: review_sample_low_confidence
-- Decisions by the confidence that they record, lowest first; one that records none is not among them.
WITH sure AS (
    SELECT
        decision_id,
        TRY_CAST(json_extract_string(CASE $part WHEN 'output' THEN output ELSE metadata END, $pointer) AS DOUBLE)
            AS confidence
    FROM store.completed_rows
    WHERE {filters}
)
SELECT decision_id, count(*) OVER () AS found
FROM sure
WHERE isfinite(confidence) AND confidence < $below
ORDER BY confidence, decision_id
LIMIT $size;

-- name: review_answers_of
-- The answers of a queue with what they brought forth, oldest first.
SELECT a.answer_id, a.decision_id, a.reviewer, a.verdict, a.judgement_id, j.reason, j.category, j.severity, j.output,
       j.withdrawn, a.recorded_at
FROM review_answers AS a
JOIN judgements AS j ON j.judgement_id = a.judgement_id
WHERE a.review_id = $review_id
ORDER BY a.position;

-- name: review_outputs
-- What decisions put out, for comparing it with corrections.
SELECT decision_id, output
FROM store.record_rows
WHERE list_contains(CAST($spans AS UBIGINT[]), span_key) AND list_contains(CAST($decision_ids AS VARCHAR[]), decision_id);

-- name: reviews
-- Every queue, newest first.
SELECT review_id, name, selection, reviewers_per_item, lease_s, created_by, recorded_at, closed_at, closed_by
FROM reviews ORDER BY commit_id DESC;

-- name: review
-- One queue.
SELECT review_id, name, selection, reviewers_per_item, lease_s, created_by, recorded_at, closed_at, closed_by
FROM reviews WHERE review_id = $review_id;
