-- name: table_as_of
-- A table of the ledger without what came after a commit.
CREATE OR REPLACE TEMP VIEW as_of_store_{table} AS SELECT * FROM {catalog}.store.{table} WHERE commit_id <= {commit_id};
