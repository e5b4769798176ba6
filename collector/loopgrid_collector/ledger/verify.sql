-- What `loopgrid verify` reads. Only stored tables, never the views, which anybody could have replaced.

-- name: identity
SELECT ledger_id, schema_version FROM store.ledger ORDER BY created_at DESC LIMIT 1;

-- name: is_ledger
SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'store' AND table_name = 'ledger';

-- name: commits
SELECT commit_id, first_record, records, root, previous, chain, epoch_us(recorded_at) AS time_us
FROM store.commits ORDER BY commit_id;

-- name: records_claimed
SELECT coalesce(sum(records), 0) FROM store.commits;

-- name: spans
-- Records in a range of positions: where it stands, how it is sealed, then what the digest covers.
SELECT
    position, commit_id, epoch_us(recorded_at) AS time_us, salt, digest,
    trace_id, span_id, parent_span_id, trace_state, flags, name, span_kind, start_ns, end_ns, status_code,
    status_message, attributes, events, links, dropped_attributes, dropped_events, dropped_links, resource, scope
FROM store.spans WHERE position >= $first AND position < $beyond;

-- name: logs
SELECT
    position, commit_id, epoch_us(recorded_at) AS time_us, salt, digest,
    trace_id, span_id, flags, time_ns, observed_ns, severity_number, severity_text, event_name, body,
    attributes, dropped_attributes, resource, scope
FROM store.logs WHERE position >= $first AND position < $beyond;

-- name: entries
SELECT
    position, commit_id, epoch_us(recorded_at) AS time_us, salt, digest,
    entry_id, entry_type, trace_id, span_id, subject_id, actor, body
FROM store.entries WHERE position >= $first AND position < $beyond;

-- name: refused
SELECT
    position, commit_id, epoch_us(recorded_at) AS time_us, salt, digest,
    reason_code, reason, signal, trace_id, span_id, payload, resource, scope
FROM store.refused WHERE position >= $first AND position < $beyond;

-- name: strays
-- The first record that stands outside of every commit.
SELECT place, table_name FROM (
    SELECT position AS place, 'spans' AS table_name FROM store.spans
    UNION ALL SELECT position, 'logs' FROM store.logs
    UNION ALL SELECT position, 'entries' FROM store.entries
    UNION ALL SELECT position, 'refused' FROM store.refused
)
WHERE place < 0 OR place >= $records OR place IS NULL
ORDER BY place LIMIT 1;

-- name: producers
-- Emitting processes, as the spans' own attributes name them: the digest covers those, and not the columns
-- that dialects derive from them.
SELECT count(DISTINCT json_extract_string(attributes, '$."loopgrid.producer.id"')) FROM store.spans
WHERE contains(attributes, '"loopgrid.producer.id"');

-- name: gaps
-- Ranges of sequence numbers that never came, by emitting process. Counts start at 1.
WITH named AS (
    SELECT
        json_extract_string(attributes, '$."loopgrid.producer.id"')                      AS producer_id,
        TRY_CAST(json_extract_string(attributes, '$."loopgrid.producer.seq"') AS BIGINT) AS seq,
        service_name
    FROM store.spans
    WHERE contains(attributes, '"loopgrid.producer.id"')
    UNION ALL
    -- A decision that is known to have started and never ended is unfinished, not missing.
    SELECT
        json_extract_string(attributes, '$."loopgrid.producer.id"'),
        TRY_CAST(json_extract_string(attributes, '$."loopgrid.producer.seq"') AS BIGINT),
        service_name
    FROM store.logs
    WHERE event_name = 'loopgrid.decision.started' AND contains(attributes, '"loopgrid.producer.id"')
),
counted AS (
    SELECT producer_id, seq, any_value(service_name) AS service_name FROM named GROUP BY producer_id, seq
),
followed AS (
    SELECT *, lag(seq, 1, 0) OVER (PARTITION BY producer_id ORDER BY seq) AS before
    FROM counted WHERE producer_id IS NOT NULL AND seq >= 1
)
SELECT producer_id, service_name, before + 1 AS first_missing, seq - 1 AS last_missing
FROM followed WHERE seq > before + 1
ORDER BY producer_id, first_missing;
