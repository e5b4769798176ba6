-- One row per version of a cohort: a frozen list of decisions, and how they were chosen.
CREATE OR REPLACE VIEW main.cohorts AS
SELECT
    entry_id                                                                     AS cohort_id,
    json_extract_string(body, '$.name')                                          AS name,
    CAST(json_extract_string(body, '$.version') AS BIGINT)                       AS version,
    len(CAST(json_extract(body, '$.decision_ids') AS VARCHAR[]))                 AS decisions,
    json_extract(body, '$.chosen')                                               AS chosen,
    actor                                                                        AS created_by,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                                                           AS digest
FROM store.entries
WHERE entry_type = 'cohort';

-- One row per decision of a cohort, in the order in which an experiment asks for them.
CREATE OR REPLACE VIEW main.cohort_decisions AS
SELECT
    entry_id                                                                     AS cohort_id,
    generate_subscripts(CAST(json_extract(body, '$.decision_ids') AS VARCHAR[]), 1) AS place,
    unnest(CAST(json_extract(body, '$.decision_ids') AS VARCHAR[]))              AS decision_id
FROM store.entries
WHERE entry_type = 'cohort';

-- What experiments are, and what happened to them, in order.
CREATE OR REPLACE VIEW store.experiment_event_rows AS
SELECT
    coalesce(subject_id, entry_id)                                               AS experiment_id,
    subject_id IS NULL                                                           AS begins,
    actor,
    body,
    recorded_at,
    commit_id,
    position,
    digest
FROM store.entries
WHERE entry_type = 'experiment';

-- One row per item that an experiment has asked for: a replay, whose decisions and results the view replays has.
CREATE OR REPLACE VIEW main.experiment_items AS
WITH item AS (
    SELECT
        entry_id                                                                 AS replay_id,
        json_extract_string(body, '$.experiment_id')                             AS experiment_id,
        json_extract_string(body, '$.arm')                                       AS arm
    FROM store.entries
    WHERE entry_type = 'replay' AND subject_id IS NULL AND json_extract_string(body, '$.experiment_id') IS NOT NULL
)
SELECT
    item.experiment_id,
    item.arm,
    r.decision_id,
    r.replay_id,
    r.status,
    r.reason,
    r.result_decision_id,
    r.requested_at,
    r.completed_at
FROM item
JOIN main.replays AS r ON r.replay_id = item.replay_id;

-- One row per experiment: many replays of a cohort under one override set, with a control arm.
CREATE OR REPLACE VIEW main.experiments AS
WITH told AS (
    SELECT
        experiment_id,
        arg_max(json_extract_string(body, '$.status'), position)                 AS status,
        arg_max(coalesce(json_extract_string(body, '$.reason'), ''), position)   AS reason,
        arg_max(json_extract(body, '$.budget'), position) FILTER (WHERE json_extract(body, '$.budget') IS NOT NULL)
                                                                                 AS budget,
        max(recorded_at)                                                         AS settled_at
    FROM store.experiment_event_rows
    WHERE NOT begins
    GROUP BY experiment_id
),
counted AS (
    SELECT
        experiment_id,
        count(*)                                                                 AS requested,
        count(*) FILTER (WHERE status = 'completed')                             AS completed,
        count(*) FILTER (WHERE status = 'failed')                                AS failed,
        count(*) FILTER (WHERE status = 'refused')                               AS refused,
        count(*) FILTER (WHERE status = 'cancelled')                             AS cancelled
    FROM main.experiment_items
    GROUP BY experiment_id
)
SELECT
    e.experiment_id,
    json_extract_string(e.body, '$.name')                                        AS name,
    json_extract_string(e.body, '$.cohort_id')                                   AS cohort_id,
    json_extract(e.body, '$.overrides')                                          AS overrides,
    json_extract_string(e.body, '$.executor')                                    AS executor,
    CAST(json_extract(e.body, '$.control_share') AS DOUBLE)                      AS control_share,
    CAST(json_extract_string(e.body, '$.concurrency') AS BIGINT)                 AS concurrency,
    coalesce(told.budget, json_extract(e.body, '$.budget'))                      AS budget,
    CAST(json_extract_string(e.body, '$.items') AS BIGINT)                       AS items,
    coalesce(told.status, 'running')                                             AS status,
    nullif(told.reason, '')                                                      AS reason,
    coalesce(counted.requested, 0)                                               AS requested,
    coalesce(counted.completed, 0)                                               AS completed,
    coalesce(counted.failed, 0)                                                  AS failed,
    coalesce(counted.refused, 0)                                                 AS refused,
    coalesce(counted.cancelled, 0)                                               AS cancelled,
    e.actor                                                                      AS created_by,
    e.recorded_at,
    CASE WHEN coalesce(told.status, 'running') <> 'running' THEN told.settled_at END AS ended_at,
    e.commit_id,
    lower(hex(e.digest))                                                         AS digest
FROM store.experiment_event_rows AS e
LEFT JOIN told ON told.experiment_id = e.experiment_id
LEFT JOIN counted ON counted.experiment_id = e.experiment_id
WHERE e.begins;

-- Schedules with what became of them.
CREATE OR REPLACE VIEW store.schedule_rows AS
WITH runs AS (
    SELECT
        json_extract_string(body, '$.schedule_id')                               AS schedule_id,
        count(*)                                                                 AS runs,
        arg_max(experiment_id, position)                                         AS last_experiment_id,
        max(recorded_at)                                                         AS last_run_at
    FROM store.experiment_event_rows
    WHERE begins AND json_extract_string(body, '$.schedule_id') IS NOT NULL
    GROUP BY ALL
),
stopped AS (
    SELECT subject_id AS schedule_id, min(recorded_at) AS stopped_at
    FROM store.entries
    WHERE entry_type = 'schedule' AND subject_id IS NOT NULL
    GROUP BY subject_id
)
SELECT
    e.entry_id                                                                   AS schedule_id,
    CASE WHEN stopped.stopped_at IS NULL THEN 'running' ELSE 'stopped' END       AS status,
    coalesce(runs.runs, 0)                                                       AS runs,
    runs.last_experiment_id,
    runs.last_run_at,
    stopped.stopped_at,
    e.body,
    e.actor                                                                      AS created_by,
    e.recorded_at,
    e.commit_id,
    e.position,
    e.digest
FROM store.entries AS e
LEFT JOIN runs ON runs.schedule_id = e.entry_id
LEFT JOIN stopped ON stopped.schedule_id = e.entry_id
WHERE e.entry_type = 'schedule' AND e.subject_id IS NULL;

-- One row per schedule: a cohort that is repeated unchanged every so often.
CREATE OR REPLACE VIEW main.schedules AS
SELECT
    schedule_id,
    json_extract_string(body, '$.name')                                          AS name,
    json_extract_string(body, '$.cohort_id')                                     AS cohort_id,
    CAST(json_extract_string(body, '$.every_s') AS BIGINT)                       AS every_s,
    status,
    runs,
    last_experiment_id,
    last_run_at,
    stopped_at,
    created_by,
    recorded_at,
    commit_id,
    lower(hex(digest))                                                           AS digest
FROM store.schedule_rows;
