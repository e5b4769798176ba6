-- The ledger, schema version 1 (docs/spec/ledger.md).
--
-- Laws: rows are inserted and never changed. No index, sequence, unique constraint, UPDATE or
-- DELETE: the same statements run on a DuckDB file and on DuckLake. `store` holds what is kept;
-- the views in `main` are the public face and the only thing other code may read.
-- Compression is named where the rows are large: left to itself DuckDB tries every method on every row group, which
-- costs more than what is gained (docs/adr/0008).
-- View bodies name tables without the catalogue, so that a ledger can be attached under any name.

CREATE SCHEMA IF NOT EXISTS store;

-- Who made this ledger, with which schema, and which views it shows (SHA-256 of the files in views/). A release with
-- other views appends a row; the newest one counts.
CREATE TABLE IF NOT EXISTS store.ledger (
    ledger_id      VARCHAR   NOT NULL,
    schema_version INTEGER   NOT NULL,
    views          VARCHAR   NOT NULL,
    created_at     TIMESTAMP NOT NULL,
    created_by     VARCHAR   NOT NULL
);

-- One row per durable group append. root is the RFC 6962 tree hash over the digests of the commit's
-- records in position order; chain is SHA-256 over the previous chain value and this commit's header.
CREATE TABLE IF NOT EXISTS store.commits (
    commit_id    BIGINT      NOT NULL,
    first_record BIGINT      NOT NULL,
    records      BIGINT      NOT NULL,
    root         BLOB        NOT NULL,
    previous     BLOB        NOT NULL,
    chain        BLOB        NOT NULL,
    recorded_at  TIMESTAMP NOT NULL
);

-- One row per span received. The columns down to `scope` are what was received and what the digest
-- covers; those after `commit_id` are what the dialects made of it and can be made anew.
-- Columns that end in _ref name the attribute that holds the content word for word; input, output and
-- tools are filled only where the content had to be put together, so that it is never stored twice.
CREATE TABLE IF NOT EXISTS store.spans (
    trace_id           UUID      NOT NULL,
    span_id            UBIGINT   NOT NULL,
    parent_span_id     UBIGINT,
    trace_state        VARCHAR,
    flags              UINTEGER,
    name               VARCHAR   NOT NULL,
    span_kind          INTEGER   NOT NULL,
    start_ns           UBIGINT   NOT NULL,
    end_ns             UBIGINT   NOT NULL,
    status_code        INTEGER   NOT NULL,
    status_message     VARCHAR,
    attributes         VARCHAR   NOT NULL USING COMPRESSION zstd,
    events             VARCHAR,
    links              VARCHAR,
    dropped_attributes UINTEGER,
    dropped_events     UINTEGER,
    dropped_links      UINTEGER,
    resource           VARCHAR   NOT NULL,
    scope              VARCHAR   NOT NULL,

    position           BIGINT    NOT NULL,
    salt               BLOB      NOT NULL,
    digest             BLOB      NOT NULL,
    recorded_at        TIMESTAMP NOT NULL,
    commit_id          BIGINT    NOT NULL,

    mapping_version    INTEGER   NOT NULL,
    kind               VARCHAR   NOT NULL,
    dialect            VARCHAR,
    decision_type      VARCHAR,
    service_name       VARCHAR,
    input              VARCHAR,
    input_ref          VARCHAR,
    system_ref         VARCHAR,
    output             VARCHAR,
    output_ref         VARCHAR,
    prompt_name        VARCHAR,
    prompt_version     VARCHAR,
    prompt_template    VARCHAR,
    prompt_variables   VARCHAR,
    model_provider     VARCHAR,
    model_name         VARCHAR,
    model_response_name VARCHAR,
    model_parameters   VARCHAR,
    tools              VARCHAR,
    tools_ref          VARCHAR,
    input_tokens       BIGINT,
    output_tokens      BIGINT,
    cache_read_tokens  BIGINT,
    cache_write_tokens BIGINT,
    reasoning_tokens   BIGINT,
    finish_reasons     VARCHAR[],
    response_id        VARCHAR,
    error_type         VARCHAR,
    error_message      VARCHAR,
    session_id         VARCHAR,
    user_id            VARCHAR,
    agent_name         VARCHAR,
    "function"         VARCHAR,
    tags               VARCHAR[],
    metadata           VARCHAR,
    replay_id          VARCHAR,
    replay_of          VARCHAR,
    replayability      VARCHAR,
    lossiness          VARCHAR[],
    producer_id        VARCHAR,
    producer_seq       BIGINT,
    record_version     BIGINT
);

-- One row per log record received that speaks of a span or carries an event name.
-- input, system and output: messages this record contributes to its span, as JSON lists, or null.
CREATE TABLE IF NOT EXISTS store.logs (
    trace_id           UUID,
    span_id            UBIGINT,
    flags              UINTEGER,
    time_ns            UBIGINT   NOT NULL,
    observed_ns        UBIGINT   NOT NULL,
    severity_number    INTEGER   NOT NULL,
    severity_text      VARCHAR,
    event_name         VARCHAR,
    body               VARCHAR USING COMPRESSION zstd,
    attributes         VARCHAR   NOT NULL USING COMPRESSION zstd,
    dropped_attributes UINTEGER,
    resource           VARCHAR   NOT NULL,
    scope              VARCHAR   NOT NULL,

    position           BIGINT    NOT NULL,
    salt               BLOB      NOT NULL,
    digest             BLOB      NOT NULL,
    recorded_at        TIMESTAMP NOT NULL,
    commit_id          BIGINT    NOT NULL,

    mapping_version    INTEGER   NOT NULL,
    service_name       VARCHAR,
    input              VARCHAR,
    system             VARCHAR,
    output             VARCHAR
);

-- One row per thing said about a decision: marks, corrections, replay requests and their transitions.
CREATE TABLE IF NOT EXISTS store.entries (
    entry_id      VARCHAR   NOT NULL,
    entry_type    VARCHAR   NOT NULL,
    trace_id      UUID      NOT NULL,
    span_id       UBIGINT   NOT NULL,
    subject_id    VARCHAR,
    actor         VARCHAR,
    body          VARCHAR   NOT NULL,

    position      BIGINT    NOT NULL,
    salt          BLOB      NOT NULL,
    digest        BLOB      NOT NULL,
    recorded_at   TIMESTAMP NOT NULL,
    commit_id     BIGINT    NOT NULL
);

-- What could not become a span or log record, with its bytes and the reason; reason_code 'conflict' is
-- what came under the ids of a span already stored, but with other content.
CREATE TABLE IF NOT EXISTS store.refused (
    reason_code   VARCHAR   NOT NULL,
    reason        VARCHAR   NOT NULL,
    signal        VARCHAR   NOT NULL,
    trace_id      UUID,
    span_id       UBIGINT,
    payload       BLOB      NOT NULL,
    resource      VARCHAR,
    scope         VARCHAR,

    position      BIGINT    NOT NULL,
    salt          BLOB      NOT NULL,
    digest        BLOB      NOT NULL,
    recorded_at   TIMESTAMP NOT NULL,
    commit_id     BIGINT    NOT NULL
);

-- What the dialects of a later release made of a stored span (`loopgrid renormalize`), where it differs from what
-- stands there; the newest row of a span counts, whole. These rows are no records: they can be made anew. The record
-- is the entry of type 'renormalisation' in the same commit.
CREATE TABLE IF NOT EXISTS store.renormalised (
    trace_id           UUID      NOT NULL,
    span_id            UBIGINT   NOT NULL,

    recorded_at        TIMESTAMP NOT NULL,
    commit_id          BIGINT    NOT NULL,

    mapping_version    INTEGER   NOT NULL,
    kind               VARCHAR   NOT NULL,
    dialect            VARCHAR,
    decision_type      VARCHAR,
    service_name       VARCHAR,
    input              VARCHAR,
    input_ref          VARCHAR,
    system_ref         VARCHAR,
    output             VARCHAR,
    output_ref         VARCHAR,
    prompt_name        VARCHAR,
    prompt_version     VARCHAR,
    prompt_template    VARCHAR,
    prompt_variables   VARCHAR,
    model_provider     VARCHAR,
    model_name         VARCHAR,
    model_response_name VARCHAR,
    model_parameters   VARCHAR,
    tools              VARCHAR,
    tools_ref          VARCHAR,
    input_tokens       BIGINT,
    output_tokens      BIGINT,
    cache_read_tokens  BIGINT,
    cache_write_tokens BIGINT,
    reasoning_tokens   BIGINT,
    finish_reasons     VARCHAR[],
    response_id        VARCHAR,
    error_type         VARCHAR,
    error_message      VARCHAR,
    session_id         VARCHAR,
    user_id            VARCHAR,
    agent_name         VARCHAR,
    "function"         VARCHAR,
    tags               VARCHAR[],
    metadata           VARCHAR,
    replay_id          VARCHAR,
    replay_of          VARCHAR,
    replayability      VARCHAR,
    lossiness          VARCHAR[],
    producer_id        VARCHAR,
    producer_seq       BIGINT,
    record_version     BIGINT
);
