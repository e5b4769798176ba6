-- name: late_keys
-- Where decisions lie, for a client's statement that is run in two (sql_late.py).
SELECT place_key FROM store.completed_rows;

-- name: late_rows
-- The view `decisions` over some of its rows, for the second of the two.
SELECT * FROM (
    SELECT * EXCLUDE (trace_key, span_key, start_key, place_key)
    FROM store.completed_rows
    WHERE {filters}
) AS decisions;

-- name: statement_of
-- The text of a statement, given its syntax as JSON.
SELECT json_deserialize_sql(CAST($syntax AS JSON)) AS statement;
