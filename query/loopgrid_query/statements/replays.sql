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
