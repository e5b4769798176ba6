-- One row per replay. What ran is known by the decision that carries the replay's id, and by nothing else: a replay is
-- completed only where its last attempt led to one. What happened besides is told by transitions, entries about the request.
CREATE OR REPLACE VIEW main.replays AS
WITH requests AS (
    SELECT
        *,
        replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id
    FROM store.entries
    WHERE entry_type = 'replay' AND subject_id IS NULL
),
transitions AS (
    SELECT
        subject_id,
        arg_max(json_extract_string(body, '$.status'), position)             AS status,
        arg_max(coalesce(json_extract_string(body, '$.reason'), ''), position) AS reason,
        arg_max(coalesce(json_extract_string(body, '$.result_decision_id'), ''), position) AS expected,
        arg_max(json_extract_string(body, '$.worker'), position) FILTER (WHERE json_extract_string(body, '$.worker') IS NOT NULL)
            AS worker,
        max(CAST(json_extract_string(body, '$.attempt') AS BIGINT)) FILTER (WHERE json_extract_string(body, '$.status') = 'running')
            AS attempts,
        max(recorded_at)                                                     AS recorded_at,
        list(struct_pack(
            status := json_extract_string(body, '$.status'),
            at := strftime(recorded_at, '%Y-%m-%dT%H:%M:%S.%fZ'),
            attempt := CAST(json_extract_string(body, '$.attempt') AS BIGINT),
            worker := json_extract_string(body, '$.worker'),
            reason := json_extract_string(body, '$.reason')
        ) ORDER BY position)                                                 AS history
    FROM store.entries
    WHERE entry_type = 'replay' AND subject_id IS NOT NULL
    GROUP BY subject_id
),
carrying AS (
    SELECT
        *,
        replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id
    FROM store.span_rows
    WHERE kind = 'decision' AND replay_id IS NOT NULL
),
results AS (
    SELECT
        carrying.replay_id,
        carrying.replay_of,
        arg_min(carrying.decision_id, carrying.position) AS decision_id,
        arg_min(carrying.status_code, carrying.position) AS status_code,
        arg_min(concat_ws(': ', carrying.error_type, carrying.error_message), carrying.position) AS failure,
        min(carrying.recorded_at)                        AS recorded_at
    FROM carrying
    LEFT JOIN transitions ON transitions.subject_id = carrying.replay_id
    WHERE transitions.subject_id IS NULL OR transitions.expected = carrying.decision_id
    GROUP BY carrying.replay_id, carrying.replay_of
),
told AS (
    SELECT
        requests.*,
        CASE
            WHEN transitions.status IN ('failed', 'refused', 'cancelled') THEN transitions.status
            WHEN results.decision_id IS NOT NULL AND results.status_code = 2 THEN 'failed'
            WHEN results.decision_id IS NOT NULL THEN 'completed'
            ELSE coalesce(transitions.status, json_extract_string(requests.body, '$.status'))
        END                   AS status,
        transitions.status    AS told_status,
        transitions.reason    AS told_reason,
        transitions.worker,
        transitions.history,
        coalesce(transitions.attempts, 0) AS begun,
        results.decision_id   AS result_decision_id,
        nullif(results.failure, '') AS failure,
        coalesce(results.recorded_at, transitions.recorded_at) AS settled_at
    FROM requests
    LEFT JOIN transitions ON transitions.subject_id = requests.entry_id
    LEFT JOIN results ON results.replay_id = requests.entry_id AND results.replay_of = requests.decision_id
)
SELECT
    entry_id                                                                 AS replay_id,
    decision_id,
    json_extract_string(body, '$.executor')                                  AS executor,
    json_extract_string(body, '$.function')                                  AS "function",
    json_extract(body, '$.overrides')                                        AS overrides,
    status,
    CASE
        WHEN status = 'completed' THEN NULL
        WHEN told_status IS NOT NULL THEN coalesce(nullif(told_reason, ''), CASE WHEN status = 'failed' THEN failure END)
        WHEN status = 'failed' THEN failure
        ELSE json_extract_string(body, '$.reason')
    END                                                                      AS reason,
    result_decision_id,
    greatest(begun, CASE WHEN result_decision_id IS NULL THEN 0 ELSE 1 END)  AS attempts,
    worker,
    actor                                                                    AS requested_by,
    json_extract_string(body, '$.idempotency_key')                           AS idempotency_key,
    recorded_at                                                              AS requested_at,
    CASE WHEN status NOT IN ('pending', 'running') THEN coalesce(settled_at, CASE WHEN status = 'refused' THEN recorded_at END) END
                                                                             AS completed_at,
    to_json(list_concat(
        [struct_pack(
            status := json_extract_string(body, '$.status'),
            at := strftime(recorded_at, '%Y-%m-%dT%H:%M:%S.%fZ'),
            attempt := CAST(1 AS BIGINT),
            worker := CAST(NULL AS VARCHAR),
            reason := json_extract_string(body, '$.reason')
        )],
        coalesce(history, []),
        CASE WHEN status IN ('completed', 'failed') AND coalesce(told_status, '') NOT IN ('completed', 'failed') THEN [struct_pack(
            status := status,
            at := strftime(settled_at, '%Y-%m-%dT%H:%M:%S.%fZ'),
            attempt := CAST(greatest(begun, 1) AS BIGINT),
            worker := worker,
            reason := CASE WHEN status = 'failed' THEN failure END
        )] ELSE [] END
    ))                                                                       AS history,
    commit_id,
    position
FROM told;
