-- name: last_commit
-- The newest commit: that the ledger answers.
SELECT max(commit_id) AS commit_id FROM commits;

-- name: catalogue
-- The views that a client's statement may read, and those of DuckDB that a bare name could reach.
SELECT current_database() AS database, view_name AS name, internal
FROM duckdb_views()
WHERE (internal AND schema_name IN ('main', 'pg_catalog'))
   OR (NOT internal AND schema_name = 'main' AND database_name = current_database());

-- name: syntax
-- A statement's syntax as JSON; a parser error is part of the answer.
SELECT json_serialize_sql($statement) AS syntax;
