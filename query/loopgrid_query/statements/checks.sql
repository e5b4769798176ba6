-- name: replays_since
-- The replays that were asked for since a moment, oldest first; a client of the SQL door runs it.
SELECT replay_id, decision_id, overrides
FROM replays WHERE requested_at >= CAST($since AS TIMESTAMP) ORDER BY requested_at, replay_id;
