-- A ledger as a folder of Parquet files, and back (`bundle.py`). DuckDB takes paths as literals only; they are quoted there.

-- name: open_copy
-- The ledger that is written out.
ATTACH '{path}' AS ledger (READ_ONLY);

-- name: write_table
-- Order is kept, so that a range of positions is found in few row groups. Small ones: a row may have many kilobytes.
COPY ledger.store.{table} TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 8192);

-- name: created_by
SELECT schema_version FROM ledger.store.ledger ORDER BY created_at DESC LIMIT 1;

-- name: newest_commit
SELECT commit_id, first_record + records, root, chain, recorded_at
FROM ledger.store.commits ORDER BY commit_id DESC LIMIT 1;

-- name: has_renormalised
SELECT count(*) > 0 FROM ledger.store.renormalised;

-- name: rows_of
SELECT count(*) FROM read_parquet('{path}');

-- name: newest_root
SELECT root FROM read_parquet('{path}') ORDER BY commit_id DESC LIMIT 1;

-- name: views_head
-- The public views of LoopGrid over the Parquet files of this folder, for DuckDB 1.5. In its shell, started in this
-- folder: .read views.sql. From elsewhere, also: SET file_search_path = 'this folder'.
CREATE SCHEMA IF NOT EXISTS store;

-- name: view_of_file
CREATE OR REPLACE VIEW store.{table} AS SELECT * FROM read_parquet('{path}');

-- name: shown_identity
-- What a verifier asks first has to be a table.
CREATE TABLE store.ledger AS SELECT * FROM read_parquet('{path}');

-- name: create_ledger
-- The file that a bundle is loaded into; as the server makes its own.
ATTACH '{path}' AS ledger (ROW_GROUP_SIZE 8192, STORAGE_VERSION '{storage_version}');

-- name: load_table
INSERT INTO ledger.store.{table} BY NAME SELECT * FROM read_parquet('{path}');

-- name: finish_ledger
CHECKPOINT ledger;
