-- name: table_as_of
-- A table of the ledger without what came after a commit.
CREATE OR REPLACE TEMP VIEW as_of_store_{table} AS SELECT * FROM {catalog}.store.{table} WHERE commit_id <= {commit_id};

-- name: macro_as_of
-- A public view as it was: the views it builds on, over tables without what came later.
CREATE OR REPLACE MACRO main.{view}_as_of(moment) AS TABLE
WITH as_of_moment AS (
    SELECT CASE
        WHEN moment IS NULL THEN error('As of when? Give a commit_id, or a moment in UTC')
        WHEN regexp_full_match(CAST(moment AS VARCHAR), '[0-9]{{1,18}}') THEN TRY_CAST(CAST(moment AS VARCHAR) AS BIGINT)
        WHEN TRY_CAST(CAST(moment AS VARCHAR) AS TIMESTAMP) IS NULL THEN error(concat(
            CAST(moment AS VARCHAR), ' is no moment: write a commit_id, or UTC as in 2026-03-01 10:00:00'
        ))
        ELSE (
            SELECT coalesce(max(commit_id), 0) FROM store.commits
            WHERE recorded_at <= TRY_CAST(CAST(moment AS VARCHAR) AS TIMESTAMP)
        )
    END AS commit_id
),
{parts}
SELECT * FROM as_of_main_{view};

-- name: macro_table
as_of_store_{table} AS NOT MATERIALIZED (
    SELECT * FROM store.{table} WHERE commit_id <= (SELECT commit_id FROM as_of_moment)
)

-- name: macro_view
as_of_{schema}_{view} AS NOT MATERIALIZED (
{body}
)
