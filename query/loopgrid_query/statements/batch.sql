-- name: batch_places
-- Where spans that may be decisions lie, of some traces.
SELECT CAST(trace_key AS VARCHAR) AS trace_key, span_key, place_key
FROM store.candidate_rows
WHERE trace_key IN (SELECT unnest(CAST($traces AS UUID[]))) AND span_key IN (SELECT unnest(CAST($spans AS UBIGINT[])))
  AND kind IN ('decision', 'inference');

-- name: batch_marks
-- As decision_marks, of many decisions.
SELECT mark_id, decision_id, reason, category, severity, marked_by, recorded_at, commit_id, digest
FROM marks WHERE decision_id IN (SELECT unnest(CAST($decision_ids AS VARCHAR[]))) ORDER BY commit_id, mark_id;

-- name: batch_corrections
-- As decision_corrections, of many decisions.
SELECT correction_id, decision_id, output, patch, corrected_by, reason, category, severity, supersedes, recorded_at,
       commit_id, digest
FROM corrections WHERE decision_id IN (SELECT unnest(CAST($decision_ids AS VARCHAR[]))) ORDER BY commit_id, correction_id;

-- name: batch_replays
-- As decision_replays, of many decisions.
SELECT replay_id, decision_id, executor, "function", overrides, status, reason, result_decision_id, attempts, worker,
       requested_by, idempotency_key, requested_at, completed_at, history, commit_id
FROM replays WHERE decision_id IN (SELECT unnest(CAST($decision_ids AS VARCHAR[]))) ORDER BY commit_id, replay_id;

-- name: batch_truths
-- As decision_ground_truth, of many decisions.
SELECT decision_id, output, correction_id, corrected_by, recorded_at, policy, disputed
FROM store.truth_rows
WHERE policy = 'latest' AND decision_id IN (SELECT unnest(CAST($decision_ids AS VARCHAR[])));

-- name: batch_outcomes_known
-- Whether any outcome was ever reported; reads no decision.
SELECT true AS known FROM store.outcome_rows LIMIT 1;
