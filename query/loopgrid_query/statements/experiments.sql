-- name: cohort_corrected
-- Decisions with a ground truth that was said since, newest word first; replays of decisions are left out.
SELECT d.decision_id, count(*) OVER () AS found
FROM store.completed_rows AS d
JOIN (
    SELECT decision_id AS corrected_id, recorded_at AS corrected_at
    FROM store.truth_rows
    WHERE policy = $policy AND recorded_at >= CAST($since AS TIMESTAMP)
) AS truth ON truth.corrected_id = d.decision_id
WHERE replay_of IS NULL AND {filters}
ORDER BY truth.corrected_at DESC, d.decision_id
LIMIT $size;

-- name: cohort_filtered
-- The newest decisions that a filter finds; replays of decisions are left out.
SELECT decision_id, count(*) OVER () AS found
FROM store.completed_rows
WHERE replay_of IS NULL AND {filters}
ORDER BY started_at DESC NULLS LAST, decision_id DESC
LIMIT $size;

-- name: cohort_sampled
-- A random sample of them that the same seed draws again.
SELECT decision_id, count(*) OVER () AS found
FROM store.completed_rows
WHERE replay_of IS NULL AND {filters}
ORDER BY sha256($seed || ':' || decision_id), decision_id
LIMIT $size;

-- name: cohort_uncorrected
-- Decisions that nobody corrected, as many of each type and prompt version as of the others; random inside each.
SELECT decision_id, count(*) OVER () AS found
FROM store.completed_rows
ANTI JOIN (SELECT decision_id AS corrected_id FROM store.truth_rows) AS truth ON truth.corrected_id = decision_id
WHERE replay_of IS NULL AND {filters}
ORDER BY
    row_number() OVER (
        PARTITION BY decision_type, prompt_name, prompt_version ORDER BY sha256($seed || ':' || decision_id), decision_id
    ),
    sha256($seed || ':' || decision_id)
LIMIT $size;

-- name: cohort_known
-- Those of some ids that are decisions on record.
SELECT decision_id FROM store.completed_rows
WHERE decision_id IN (SELECT unnest(CAST($decision_ids AS VARCHAR[])));

-- name: cohorts
-- Every version of every cohort, newest first.
SELECT cohort_id, name, version, decisions, chosen, created_by, recorded_at
FROM cohorts ORDER BY position DESC LIMIT 1000;

-- name: cohort_named
-- A cohort by its id, or by its name and a version; without a version, the newest.
SELECT cohort_id, name, version, decisions, chosen, created_by, recorded_at
FROM cohorts
WHERE cohort_id = $named OR (name = $called AND ($version IS NULL OR version = $version))
ORDER BY cohort_id = $named DESC, version DESC
LIMIT 1;

-- name: cohort_members
-- The decisions of a cohort, in its order.
SELECT decision_id FROM cohort_decisions WHERE cohort_id = $cohort_id ORDER BY place;

-- name: experiments
-- Every experiment, newest first, as it was asked for and with the last word about it.
SELECT
    e.experiment_id, e.actor AS created_by, e.body, e.recorded_at,
    last.body AS told, last.recorded_at AS told_at, budget.body AS budget
FROM store.experiment_event_rows AS e
LEFT JOIN (
    SELECT experiment_id, arg_max(body, position) AS body, max(recorded_at) AS recorded_at
    FROM store.experiment_event_rows WHERE NOT begins GROUP BY experiment_id
) AS last ON last.experiment_id = e.experiment_id
LEFT JOIN (
    SELECT experiment_id, arg_max(json_extract(body, '$.budget'), position) AS body
    FROM store.experiment_event_rows WHERE json_extract(body, '$.budget') IS NOT NULL GROUP BY experiment_id
) AS budget ON budget.experiment_id = e.experiment_id
WHERE e.begins AND ($experiment_id IS NULL OR e.experiment_id = $experiment_id)
ORDER BY e.position DESC
LIMIT 1000;

-- name: experiment_items
-- The items that an experiment has asked for.
SELECT arm, decision_id, replay_id, status, reason, result_decision_id, completed_at
FROM experiment_items WHERE experiment_id = $experiment_id;

-- name: experiment_counts
-- How many items of an experiment there are of each status.
SELECT status, count(*) AS items FROM experiment_items WHERE experiment_id = $experiment_id GROUP BY status;

-- name: truths_by_policy
-- The ground truth of some decisions by a policy.
SELECT decision_id, output, correction_id, corrected_by, recorded_at, policy, disputed
FROM store.truth_rows
WHERE policy = $policy AND decision_id IN (SELECT unnest(CAST($decision_ids AS VARCHAR[])));

-- name: experiment_prices
-- The prices that stand now, for estimates.
SELECT provider, model, valid_from, above_input_tokens, input_usd, output_usd, request_usd
FROM prices
ORDER BY provider IS NOT NULL DESC, valid_from DESC NULLS LAST, above_input_tokens NULLS FIRST, position DESC;

-- name: schedules
-- Every schedule, newest first, as it was asked for and with its last run.
SELECT s.schedule_id, s.status, s.runs, s.last_experiment_id, s.last_run_at, s.created_by, s.recorded_at, s.body
FROM store.schedule_rows AS s
WHERE ($schedule_id IS NULL OR s.schedule_id = $schedule_id) AND ($status IS NULL OR s.status = $status)
ORDER BY s.position DESC
LIMIT 1000;
