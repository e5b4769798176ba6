-- name: replays_since
-- The replays that were asked for since a moment, oldest first; a client of the SQL door runs it.
SELECT replay_id, decision_id, overrides
FROM replays WHERE requested_at >= CAST($since AS TIMESTAMP) ORDER BY requested_at, replay_id;

-- name: replays_named
-- Which decisions these replays replay; a client of the SQL door runs it.
SELECT replay_id, decision_id
FROM replays WHERE list_contains(CAST($replay_ids AS VARCHAR[]), replay_id) ORDER BY replay_id;

-- name: null_outputs
-- Which of these decisions have an output that is JSON's null; a client of the SQL door runs it.
SELECT decision_id
FROM decisions
WHERE list_contains(CAST($decision_ids AS VARCHAR[]), decision_id) AND output = 'null' ORDER BY decision_id;

-- name: experiment_results
-- The decisions that an experiment's completed items led to; a client of the SQL door runs it.
SELECT arm, decision_id, result_decision_id
FROM experiment_items
WHERE experiment_id = $experiment_id AND status = 'completed' AND result_decision_id IS NOT NULL
ORDER BY arm, decision_id;
