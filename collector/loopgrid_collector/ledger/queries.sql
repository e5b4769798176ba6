-- name: ledger_tables
-- Whether the attached file already holds a ledger, and whether it holds anything at all.
SELECT
    count(*) FILTER (WHERE schema_name = 'store' AND table_name = 'ledger') AS is_ledger,
    count(*) AS tables
FROM duckdb_tables()
WHERE database_name = 'ledger';

-- name: ledger_identity
-- Who made this ledger, and with which schema and views; the newest row counts.
SELECT ledger_id, schema_version, views FROM store.ledger ORDER BY created_at DESC LIMIT 1;

-- name: add_ledger_identity
-- Say which schema and views this ledger has from now on.
INSERT INTO store.ledger VALUES ($ledger_id, $schema_version, $views, $created_at, $created_by);

-- name: last_commit
-- The newest commit and how many records the ledger holds with it.
SELECT commit_id, first_record + records AS records, chain
FROM store.commits ORDER BY commit_id DESC LIMIT 1;

-- name: commit_at
-- The chain value of one commit.
SELECT chain FROM store.commits WHERE commit_id = $commit_id;

-- name: span_keys
-- The key of every stored span.
SELECT trace_id, span_id FROM store.spans;

-- name: stored_spans
-- Spans of the batch whose ids are stored already, with what is needed to compare their content.
SELECT batch.row AS row, stored.salt AS salt, stored.digest AS digest
FROM batch
JOIN store.spans AS stored ON stored.trace_id = batch.trace_id AND stored.span_id = batch.span_id;

-- name: stored_logs
-- Log records that may be the same as one of the batch.
SELECT batch.row AS row, stored.salt AS salt, stored.digest AS digest
FROM batch
JOIN store.logs AS stored
  ON stored.time_ns = batch.time_ns AND stored.observed_ns = batch.observed_ns
 AND stored.trace_id IS NOT DISTINCT FROM batch.trace_id AND stored.span_id IS NOT DISTINCT FROM batch.span_id;

-- name: stored_refusals
-- Quarantined payloads that are the same as one of the batch.
SELECT DISTINCT batch.row AS row
FROM batch
JOIN store.refused AS stored
  ON stored.reason_code = batch.reason_code AND stored.signal = batch.signal AND stored.payload = batch.payload;

-- name: keys
-- API keys and their revocations, in the order in which they were appended.
SELECT entry_type, body FROM store.entries
WHERE entry_type IN ('key', 'key_revoked') ORDER BY position;

-- name: judgements_of_commit
-- What people said that a commit holds, of the entries named.
SELECT judgement_id, decision_id, event, subject_id, said_by, reason, category, severity,
       CAST(output AS VARCHAR) AS output, recorded_at, position
FROM main.judgements WHERE commit_id = $commit_id AND list_contains($entry_ids, judgement_id) ORDER BY position;

-- name: append_spans
INSERT INTO store.spans BY NAME SELECT * FROM batch;

-- name: append_logs
INSERT INTO store.logs BY NAME SELECT * FROM batch;

-- name: append_entries
INSERT INTO store.entries BY NAME SELECT * FROM batch;

-- name: append_refused
INSERT INTO store.refused BY NAME SELECT * FROM batch;

-- name: append_renormalised
INSERT INTO store.renormalised BY NAME SELECT * FROM batch;

-- name: has_overlay
-- Whether the ledger holds renormalised rows, so that its views have to look at them.
SELECT count(*) > 0 AS overlaid FROM duckdb_tables()
WHERE database_name = 'ledger' AND schema_name = 'store' AND table_name = 'renormalised' AND estimated_size > 0;

-- name: spans_since
-- First and last place of the spans recorded since a moment, and how many there are.
SELECT min(position) AS first, max(position) AS last, count(*) AS spans
FROM store.spans WHERE recorded_at >= $since;

-- name: spans_between
-- What was received, and what the dialects made of it so far, for spans in a range of places.
SELECT * FROM store.span_rows WHERE position >= $first AND position < $beyond ORDER BY position;

-- name: append_commit
INSERT INTO store.commits
VALUES ($commit_id, $first_record, $records, $root, $previous, $chain, $recorded_at);

-- name: checkpoint
-- Fold the write-ahead log into the file.
CHECKPOINT ledger;

-- name: oddities
-- What a range of commits stored and a later release may read better, or hid.
SELECT
    count(*) FILTER (mapping_version = 0) AS unmapped,
    coalesce(sum(len(list_filter(lossiness, lambda code: starts_with(code, 'scrubbed:')))), 0)::BIGINT AS scrubbed,
    count(*) FILTER (strange) AS unknown_fields
FROM (
    SELECT mapping_version, lossiness, list_contains(lossiness, 'unknown_fields') AS strange
    FROM store.spans WHERE commit_id > $after AND commit_id <= $until
    UNION ALL
    SELECT mapping_version, NULL, starts_with(attributes, '{"$unknown_fields":')
        OR starts_with(resource, '{"$unknown_fields":') OR starts_with(scope, '{"$unknown_fields":')
    FROM store.logs WHERE commit_id > $after AND commit_id <= $until
);

-- name: quack_views
-- The public views, which a DuckDB that attaches the live ledger sees.
SELECT view_name FROM duckdb_views() WHERE database_name = 'ledger' AND schema_name = 'main' AND NOT internal;

-- name: quack_view
-- One of them where quack's sessions look: they know the first database only.
CREATE OR REPLACE VIEW memory.main.{view} AS FROM ledger.main.{view};

-- name: quack_begin
-- Listen for DuckDB processes; our functions say who may attach and what may run.
SET GLOBAL quack_authentication_function = '{admit}';
SET GLOBAL quack_authorization_function = '{allow}';
CALL quack_serve('{address}');

-- name: quack_end
-- Listen no more.
CALL quack_stop('{address}');

-- name: quack_schemas
-- What a client asks when it attaches (quack 1.5.5): the schemas.
SELECT catalog_name, schema_name
FROM information_schema.schemata
WHERE catalog_name NOT IN ('system', 'temp')
ORDER BY ALL;

-- name: quack_tables
-- What a client asks when it attaches (quack 1.5.5): the tables and views.
SELECT schema_name, sql, 'table'
FROM duckdb_tables()
UNION ALL
SELECT schema_name, view_name, 'view'
FROM duckdb_views();
