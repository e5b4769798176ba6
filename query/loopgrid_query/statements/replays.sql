-- name: decision_replays
-- The replays of a decision, oldest first.
SELECT replay_id, decision_id, executor, "function", overrides, status, reason, result_decision_id, attempts, worker,
       requested_by, idempotency_key, requested_at, completed_at, history, commit_id
FROM replays WHERE decision_id = $decision_id ORDER BY commit_id, replay_id;

-- name: replay
-- One replay.
SELECT replay_id, decision_id, executor, "function", overrides, status, reason, result_decision_id, attempts, worker,
       requested_by, idempotency_key, requested_at, completed_at, history, commit_id
FROM replays WHERE replay_id = $replay_id;

-- name: replay_by_key
-- The replay that was requested under an idempotency key.
SELECT replay_id FROM replays WHERE idempotency_key = $idempotency_key ORDER BY commit_id LIMIT 1;

-- name: open_replays
-- Replays that the ledger does not say the end of, oldest first, with the last transition of each.
WITH told AS (
    SELECT
        subject_id,
        arg_max(json_extract_string(body, '$.status'), position)                    AS status,
        arg_max(CAST(json_extract_string(body, '$.attempt') AS BIGINT), position)   AS attempt,
        arg_max(json_extract_string(body, '$.worker'), position)                    AS worker,
        arg_max(CAST(json_extract_string(body, '$.lease_s') AS DOUBLE), position)   AS lease_s
    FROM store.said_rows
    WHERE entry_type = 'replay' AND subject_id IS NOT NULL
    GROUP BY subject_id
)
SELECT
    r.entry_id AS replay_id, r.decision_id, json_extract_string(r.body, '$.executor') AS executor,
    json_extract_string(r.body, '$.function') AS "function",
    coalesce(t.status, json_extract_string(r.body, '$.status')) AS status, coalesce(t.attempt, 1) AS attempt,
    t.worker, t.lease_s
FROM store.said_rows AS r
LEFT JOIN told AS t ON t.subject_id = r.entry_id
WHERE r.entry_type = 'replay' AND r.subject_id IS NULL
  AND coalesce(t.status, json_extract_string(r.body, '$.status')) IN ('pending', 'running')
  AND json_extract_string(r.body, '$.executor') <> 'external'
ORDER BY r.position;

-- name: replay_result
-- The decision that a replay's attempt led to, if it is on record.
SELECT status_code, nullif(concat_ws(': ', error_type, error_message), '') AS failure
FROM store.span_rows
WHERE trace_id = CAST($trace_id AS UUID) AND span_id = $span_id AND kind = 'decision' AND replay_id = $replay_id
LIMIT 1;

-- name: replay_results
-- Whether any decision says that it is the result of a replay.
SELECT true AS known FROM store.span_rows WHERE kind = 'decision' AND replay_id = $replay_id LIMIT 1;

-- name: list_replays
-- Replays, newest first, after the one that the page before ended in.
SELECT replay_id, decision_id, executor, "function", overrides, status, reason, result_decision_id, attempts, worker,
       requested_by, idempotency_key, requested_at, completed_at, history, commit_id
FROM replays
WHERE ($status IS NULL OR status = $status) AND ($decision_id IS NULL OR decision_id = $decision_id)
  AND ($after IS NULL OR position < (SELECT position FROM store.said_rows WHERE entry_id = $after))
ORDER BY position DESC
LIMIT $limit;
