-- One row per replay. What ran is known by the decision that carries the replay's id, and by nothing else.
CREATE OR REPLACE VIEW main.replays AS
WITH requests AS (
    SELECT
        *,
        replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id
    FROM store.entries
    WHERE entry_type = 'replay' AND subject_id IS NULL
),
transitions AS (
    SELECT subject_id, arg_max(body, position) AS body, max(recorded_at) AS recorded_at
    FROM store.entries
    WHERE entry_type = 'replay' AND subject_id IS NOT NULL
    GROUP BY subject_id
),
results AS (
    SELECT
        replay_id,
        replay_of,
        arg_min(replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id), position) AS decision_id,
        arg_min(status_code, position) AS status_code,
        arg_min(concat_ws(': ', error_type, error_message), position) AS failure,
        min(recorded_at)               AS recorded_at
    FROM store.span_rows
    WHERE kind = 'decision' AND replay_id IS NOT NULL
    GROUP BY replay_id, replay_of
)
SELECT
    requests.entry_id                                                        AS replay_id,
    requests.decision_id                                                     AS decision_id,
    json_extract_string(requests.body, '$.executor')                         AS executor,
    json_extract(requests.body, '$.overrides')                               AS overrides,
    CASE
        WHEN results.decision_id IS NOT NULL AND results.status_code = 2 THEN 'failed'
        WHEN results.decision_id IS NOT NULL THEN 'completed'
        ELSE coalesce(json_extract_string(transitions.body, '$.status'), json_extract_string(requests.body, '$.status'))
    END                                                                      AS status,
    CASE
        WHEN results.decision_id IS NULL
            THEN coalesce(json_extract_string(transitions.body, '$.reason'), json_extract_string(requests.body, '$.reason'))
        WHEN results.status_code = 2 THEN nullif(results.failure, '')
    END                                                                      AS reason,
    results.decision_id                                                      AS result_decision_id,
    requests.actor                                                           AS requested_by,
    json_extract_string(requests.body, '$.idempotency_key')                  AS idempotency_key,
    requests.recorded_at                                                     AS requested_at,
    coalesce(results.recorded_at, transitions.recorded_at)                   AS completed_at,
    requests.commit_id                                                       AS commit_id,
    requests.position                                                        AS position
FROM requests
LEFT JOIN transitions ON transitions.subject_id = requests.entry_id
LEFT JOIN results ON results.replay_id = requests.entry_id AND results.replay_of = requests.decision_id;

-- One row per experiment.
CREATE OR REPLACE VIEW main.experiments AS
SELECT entry_id AS experiment_id, actor AS started_by, CAST(body AS JSON) AS definition, recorded_at AS started_at, commit_id
FROM store.entries
WHERE entry_type = 'experiment';
