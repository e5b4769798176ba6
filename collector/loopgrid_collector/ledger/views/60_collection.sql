-- One row per decision that was reported as started and whose span never came: its process was killed, or it is
-- still running. There is no end and no output to show, and none is made up.
CREATE OR REPLACE VIEW main.unfinished AS
WITH reported AS (
    SELECT *
    FROM store.logs AS l
    WHERE l.event_name = 'loopgrid.decision.started' AND l.trace_id IS NOT NULL AND l.span_id IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY l.trace_id, l.span_id ORDER BY l.position) = 1
)
SELECT
    replace(CAST(r.trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', r.span_id)   AS decision_id,
    replace(CAST(r.trace_id AS VARCHAR), '-', '')                                          AS trace_id,
    format('{:016x}', r.span_id)                                                           AS span_id,
    json_extract_string(r.attributes, '$."loopgrid.decision.type"')                        AS decision_type,
    r.service_name,
    json_extract_string(r.attributes, '$."code.function.name"')                            AS "function",
    CASE WHEN json_valid(json_extract_string(r.attributes, '$."loopgrid.decision.input"'))
         THEN CAST(json_extract_string(r.attributes, '$."loopgrid.decision.input"') AS JSON)
         ELSE to_json(json_extract_string(r.attributes, '$."loopgrid.decision.input"')) END AS input,
    json_extract_string(r.attributes, '$."loopgrid.producer.id"')                          AS producer_id,
    TRY_CAST(json_extract_string(r.attributes, '$."loopgrid.producer.seq"') AS BIGINT)     AS producer_seq,
    CASE WHEN r.time_ns > 0 THEN make_timestamp(CAST(r.time_ns // 1000 AS BIGINT)) END     AS started_at,
    r.recorded_at,
    r.commit_id
FROM reported AS r
ANTI JOIN store.span_rows AS s ON s.trace_id = r.trace_id AND s.span_id = r.span_id;

-- One row per emitting process: does its count have gaps? Counts start at 1. What it said about itself in its newest
-- report stands in the last columns; they are null where it never had anything to say.
CREATE OR REPLACE VIEW main.producers AS
WITH arrived AS (
    SELECT producer_id, producer_seq, service_name, recorded_at, false AS is_unfinished
    FROM store.span_rows
    WHERE producer_id IS NOT NULL AND producer_seq IS NOT NULL
    UNION ALL
    SELECT producer_id, producer_seq, service_name, recorded_at, true
    FROM main.unfinished
    WHERE producer_id IS NOT NULL AND producer_seq IS NOT NULL
),
reports AS (
    SELECT
        json_extract_string(attributes, '$."loopgrid.producer.id"') AS producer_id,
        arg_max(attributes, (time_ns, position))                    AS facts,
        arg_max(service_name, (time_ns, position))                  AS service_name,
        min(recorded_at)                                            AS first_recorded_at,
        max(recorded_at)                                            AS last_recorded_at
    FROM store.logs
    WHERE event_name = 'loopgrid.producer.report'
    GROUP BY ALL
),
counted AS (
    SELECT
        producer_id,
        any_value(service_name)                                            AS service_name,
        count(DISTINCT producer_seq) FILTER (NOT is_unfinished)            AS received,
        max(producer_seq)                                                  AS last_seq,
        max(producer_seq) - count(DISTINCT producer_seq)                   AS missing,
        min(recorded_at)                                                   AS first_recorded_at,
        max(recorded_at)                                                   AS last_recorded_at,
        count(DISTINCT producer_seq) FILTER (is_unfinished)                AS unfinished
    FROM arrived
    GROUP BY producer_id
)
SELECT
    coalesce(counted.producer_id, reports.producer_id)                     AS producer_id,
    coalesce(counted.service_name, reports.service_name)                   AS service_name,
    coalesce(counted.received, 0)                                          AS received,
    counted.last_seq,
    coalesce(counted.missing, 0)                                           AS missing,
    coalesce(counted.first_recorded_at, reports.first_recorded_at)         AS first_recorded_at,
    coalesce(counted.last_recorded_at, reports.last_recorded_at)           AS last_recorded_at,
    coalesce(counted.unfinished, 0)                                        AS unfinished,
    TRY_CAST(json_extract_string(reports.facts, '$."loopgrid.producer.last_seq"') AS BIGINT) AS reported_seq,
    coalesce(TRY_CAST(json_extract_string(reports.facts, '$."loopgrid.producer.count.spool_full"') AS BIGINT), 0)
        + coalesce(TRY_CAST(json_extract_string(reports.facts, '$."loopgrid.producer.count.closed"') AS BIGINT), 0)
        + coalesce(TRY_CAST(json_extract_string(reports.facts, '$."loopgrid.producer.count.open_failed"') AS BIGINT), 0)
        + coalesce(TRY_CAST(json_extract_string(reports.facts, '$."loopgrid.producer.count.defect"') AS BIGINT), 0)
                                                                           AS dropped,
    CAST(reports.facts AS JSON)                                            AS report
FROM counted
FULL JOIN reports ON reports.producer_id = counted.producer_id;

-- One row per item that could not be stored as what it claimed to be.
CREATE OR REPLACE VIEW main.quarantine AS
SELECT
    reason_code,
    reason,
    signal,
    replace(CAST(trace_id AS VARCHAR), '-', '') AS trace_id,
    format('{:016x}', span_id)                  AS span_id,
    payload,
    CAST(resource AS JSON)                      AS resource,
    CAST(scope AS JSON)                         AS scope,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                          AS digest
FROM store.refused
WHERE reason_code <> 'conflict';

-- One row per span that came under the ids of a stored one with other content. The first one stands.
CREATE OR REPLACE VIEW main.conflicts AS
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id,
    replace(CAST(trace_id AS VARCHAR), '-', '') AS trace_id,
    format('{:016x}', span_id)                  AS span_id,
    reason,
    payload,
    CAST(resource AS JSON)                      AS resource,
    CAST(scope AS JSON)                         AS scope,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                          AS digest
FROM store.refused
WHERE reason_code = 'conflict';

-- One row per durable group append.
CREATE OR REPLACE VIEW main.commits AS
SELECT
    commit_id,
    first_record,
    records,
    lower(hex(root))     AS root,
    lower(hex(previous)) AS previous,
    lower(hex(chain))    AS chain,
    recorded_at
FROM store.commits;
