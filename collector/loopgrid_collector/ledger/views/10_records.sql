-- The public views of the ledger (docs/spec/ledger.md). Stable names, stable columns.
--
-- Every timestamp is UTC. JSON columns always parse. A null says "not recorded", never "empty".
-- Views whose names end in _rows stand in `store`, carry the physical keys (trace_key, span_key) and are
-- there for the server's own look-ups (place_key finds a row where it lies); everybody else reads the views in `main`.

-- Every span: what was received, and what the dialects made of it. overlay.sql replaces this view in a ledger that
-- holds renormalised rows, so that all others pay nothing for the possibility.
CREATE OR REPLACE VIEW store.span_rows AS
SELECT * FROM store.spans;

-- Messages that arrived in log records, put together per span. Where a record carries the whole content of its call,
-- records with single messages say the same once more. Messages stand in the order in which they were said, not in
-- that in which their records arrived.
CREATE OR REPLACE VIEW store.log_content_rows AS
SELECT
    trace_id AS trace_key,
    span_id  AS span_key,
    '[' || coalesce(
        string_agg(substr(input, 2, length(input) - 2), ',' ORDER BY said_ns, position) FILTER (WHERE whole),
        string_agg(substr(input, 2, length(input) - 2), ',' ORDER BY said_ns, position) FILTER (WHERE NOT whole)
    ) || ']' AS input,
    '[' || coalesce(
        string_agg(substr(system, 2, length(system) - 2), ',' ORDER BY said_ns, position) FILTER (WHERE whole),
        string_agg(substr(system, 2, length(system) - 2), ',' ORDER BY said_ns, position) FILTER (WHERE NOT whole)
    ) || ']' AS system,
    '[' || coalesce(
        string_agg(substr(output, 2, length(output) - 2), ',' ORDER BY said_ns, position) FILTER (WHERE whole),
        string_agg(substr(output, 2, length(output) - 2), ',' ORDER BY said_ns, position) FILTER (WHERE NOT whole)
    ) || ']' AS output
FROM (
    SELECT
        trace_id, span_id, input, system, output, position,
        coalesce(nullif(time_ns, 0), observed_ns) AS said_ns,
        coalesce(event_name, json_extract_string(attributes, '$."event.name"'), '')
            = 'gen_ai.client.inference.operation.details' AS whole
    FROM store.logs
    WHERE trace_id IS NOT NULL AND span_id IS NOT NULL
      AND (input IS NOT NULL OR system IS NOT NULL OR output IS NOT NULL)
)
GROUP BY trace_id, span_id;

-- Which spans were marked or corrected, one row a span. A relation to join and no EXISTS for each row: DuckDB works out
-- every EXISTS of a view, asked for or not, and leaves such a join out.
CREATE OR REPLACE VIEW store.judged_rows AS
SELECT
    trace_id AS trace_key,
    span_id  AS span_key,
    bool_or(entry_type = 'mark')       AS incorrect,
    bool_or(entry_type = 'correction') AS corrected
FROM store.standing_rows
WHERE entry_type IN ('mark', 'correction')
GROUP BY trace_id, span_id;

-- Every span as a decision record, with its content looked up and its physical keys.
CREATE OR REPLACE VIEW store.record_rows AS
WITH placed AS (
    SELECT
        s.*,
        coalesce(s.input, json_extract_string(s.attributes, '$."' || s.input_ref || '"'), l.input)     AS body_text,
        coalesce(json_extract_string(s.attributes, '$."' || s.system_ref || '"'), l.system)            AS system_text,
        coalesce(s.output, json_extract_string(s.attributes, '$."' || s.output_ref || '"'), l.output)  AS output_text,
        coalesce(s.tools, json_extract_string(s.attributes, '$."' || s.tools_ref || '"'))              AS tools_text,
        l.input IS NOT NULL OR l.output IS NOT NULL                                                    AS content_in_logs,
        coalesce(judged.incorrect, false)                                                              AS incorrect,
        coalesce(judged.corrected, false)                                                              AS corrected
    FROM store.span_rows AS s
    LEFT JOIN store.log_content_rows AS l ON l.trace_key = s.trace_id AND l.span_key = s.span_id
    LEFT JOIN store.judged_rows AS judged ON judged.trace_key = s.trace_id AND judged.span_key = s.span_id
),
joined AS (
    SELECT
        *,
        CASE
            WHEN system_text IS NULL THEN body_text
            WHEN body_text IS NULL OR body_text = '[]' THEN '[{"role":"system","parts":' || system_text || '}]'
            WHEN starts_with(body_text, '[') THEN '[{"role":"system","parts":' || system_text || '},' || substr(body_text, 2)
            ELSE body_text
        END AS input_text
    FROM placed
)
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id,
    replace(CAST(trace_id AS VARCHAR), '-', '')                                      AS trace_id,
    format('{:016x}', span_id)                                                       AS span_id,
    format('{:016x}', parent_span_id)                                                AS parent_span_id,
    kind,
    dialect,
    decision_type,
    service_name,
    CASE status_code WHEN 1 THEN 'ok' WHEN 2 THEN 'error' END                        AS status,
    CASE WHEN json_valid(input_text) THEN CAST(input_text AS JSON) ELSE to_json(input_text) END      AS input,
    CASE WHEN json_valid(output_text) THEN CAST(output_text AS JSON) ELSE to_json(output_text) END   AS output,
    prompt_name,
    prompt_version,
    prompt_template,
    CAST(prompt_variables AS JSON)                                                   AS prompt_variables,
    model_provider,
    model_name,
    model_response_name,
    CAST(model_parameters AS JSON)                                                   AS model_parameters,
    CASE WHEN json_valid(tools_text) THEN CAST(tools_text AS JSON) ELSE to_json(tools_text) END      AS tools,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    reasoning_tokens,
    CASE WHEN coalesce(model_provider, model_name, model_response_name) IS NOT NULL
         THEN 'stated' END                                                           AS model_source,
    CASE WHEN coalesce(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens)
              IS NOT NULL THEN 'stated' END                                          AS usage_source,
    -- Reading the attributes' JSON costs more than all else here; few have what is looked for.
    CASE WHEN kind IN ('decision', 'inference') AND contains(CAST(attributes AS VARCHAR), 'cost') THEN list_filter(
        [TRY_CAST(said AS DOUBLE) FOR said IN json_extract_string(attributes, [
            '$."llm.cost.total"', '$."operation.cost"', '$."gen_ai.usage.cost"'
        ]) || [
            json_extract_string(CASE WHEN json_valid(json_extract_string(attributes, '$."langfuse.observation.cost_details"'))
                THEN json_extract_string(attributes, '$."langfuse.observation.cost_details"') END, '$.total'),
            json_extract_string(CASE WHEN json_valid(json_extract_string(attributes, '$."mlflow.llm.cost"'))
                THEN json_extract_string(attributes, '$."mlflow.llm.cost"') END, '$.total_cost')
        ]], lambda cost: isfinite(cost))[1] END                                      AS cost_usd,
    finish_reasons,
    response_id,
    error_type,
    error_message,
    session_id,
    user_id,
    agent_name,
    "function",
    tags,
    CAST(metadata AS JSON)                                                           AS metadata,
    CASE WHEN start_ns > 0 THEN make_timestamp(CAST(start_ns // 1000 AS BIGINT)) END AS started_at,
    CASE WHEN start_ns > 0 AND end_ns > 0
         THEN CAST(CAST(end_ns AS HUGEINT) - CAST(start_ns AS HUGEINT) AS DOUBLE) / 1e6 END          AS duration_ms,
    incorrect,
    corrected,
    replay_id,
    replay_of,
    CASE WHEN replayability = 'none' AND content_in_logs AND model_name IS NOT NULL AND body_text IS NOT NULL
         THEN 'approximate' ELSE replayability END                                   AS replayability,
    CASE WHEN NOT content_in_logs THEN lossiness
         ELSE nullif(list_filter(lossiness, lambda code: NOT starts_with(code, 'content_off')), []) END AS lossiness,
    producer_id,
    producer_seq,
    record_version,
    mapping_version,
    recorded_at,
    commit_id,
    lower(hex(digest))                                                               AS digest,
    joined.trace_id AS trace_key,
    joined.span_id  AS span_key,
    joined.start_ns AS start_key,
    joined.position AS place_key
FROM joined;

-- The same for a span of which nothing has been said, in logs or in entries, and which states no cost: most spans,
-- at half of the price. says_cost tells where the second does not hold; the first is for the reader to look up.
CREATE OR REPLACE VIEW store.plain_rows AS
WITH placed AS (
    SELECT
        s.*,
        coalesce(s.input, json_extract_string(s.attributes, '$."' || s.input_ref || '"'))     AS body_text,
        coalesce(json_extract_string(s.attributes, '$."' || s.system_ref || '"'))            AS system_text,
        coalesce(s.output, json_extract_string(s.attributes, '$."' || s.output_ref || '"'))  AS output_text,
        coalesce(s.tools, json_extract_string(s.attributes, '$."' || s.tools_ref || '"'))              AS tools_text
    FROM store.span_rows AS s
),
joined AS (
    SELECT
        *,
        CASE
            WHEN system_text IS NULL THEN body_text
            WHEN body_text IS NULL OR body_text = '[]' THEN '[{"role":"system","parts":' || system_text || '}]'
            WHEN starts_with(body_text, '[') THEN '[{"role":"system","parts":' || system_text || '},' || substr(body_text, 2)
            ELSE body_text
        END AS input_text
    FROM placed
)
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id,
    replace(CAST(trace_id AS VARCHAR), '-', '')                                      AS trace_id,
    format('{:016x}', span_id)                                                       AS span_id,
    format('{:016x}', parent_span_id)                                                AS parent_span_id,
    kind,
    dialect,
    decision_type,
    service_name,
    CASE status_code WHEN 1 THEN 'ok' WHEN 2 THEN 'error' END                        AS status,
    CASE WHEN json_valid(input_text) THEN CAST(input_text AS JSON) ELSE to_json(input_text) END      AS input,
    CASE WHEN json_valid(output_text) THEN CAST(output_text AS JSON) ELSE to_json(output_text) END   AS output,
    prompt_name,
    prompt_version,
    prompt_template,
    CAST(prompt_variables AS JSON)                                                   AS prompt_variables,
    model_provider,
    model_name,
    model_response_name,
    CAST(model_parameters AS JSON)                                                   AS model_parameters,
    CASE WHEN json_valid(tools_text) THEN CAST(tools_text AS JSON) ELSE to_json(tools_text) END      AS tools,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    reasoning_tokens,
    CASE WHEN coalesce(model_provider, model_name, model_response_name) IS NOT NULL
         THEN 'stated' END                                                           AS model_source,
    CASE WHEN coalesce(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens)
              IS NOT NULL THEN 'stated' END                                          AS usage_source,
    CAST(NULL AS DOUBLE) AS cost_usd,
    finish_reasons,
    response_id,
    error_type,
    error_message,
    session_id,
    user_id,
    agent_name,
    "function",
    tags,
    CAST(metadata AS JSON)                                                           AS metadata,
    CASE WHEN start_ns > 0 THEN make_timestamp(CAST(start_ns // 1000 AS BIGINT)) END AS started_at,
    CASE WHEN start_ns > 0 AND end_ns > 0
         THEN CAST(CAST(end_ns AS HUGEINT) - CAST(start_ns AS HUGEINT) AS DOUBLE) / 1e6 END          AS duration_ms,
    false AS incorrect,
    false AS corrected,
    replay_id,
    replay_of,
    replayability,
    lossiness,
    producer_id,
    producer_seq,
    record_version,
    mapping_version,
    recorded_at,
    commit_id,
    lower(hex(digest))                                                               AS digest,
    trace_id AS trace_key,
    span_id  AS span_key,
    position AS place_key,
    contains(attributes, 'cost') AS says_cost
FROM joined;

-- What lists filter by, as record_rows has it, without content. No join stands between the rows and whoever asks for the
-- newest of them, so that conditions and an order by start_key reach the scan.
CREATE OR REPLACE VIEW store.candidate_rows AS
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id,
    kind,
    decision_type,
    service_name,
    CASE status_code WHEN 1 THEN 'ok' WHEN 2 THEN 'error' END                        AS status,
    prompt_name,
    prompt_version,
    model_name,
    model_response_name,
    CASE WHEN coalesce(model_provider, model_name, model_response_name) IS NOT NULL
         THEN 'stated' END                                                           AS model_source,
    session_id,
    user_id,
    CAST(metadata AS JSON)                                                           AS metadata,
    CASE WHEN start_ns > 0 THEN make_timestamp(CAST(start_ns // 1000 AS BIGINT)) END AS started_at,
    replay_id,
    trace_id AS trace_key,
    span_id  AS span_key,
    start_ns AS start_key,
    position AS place_key
FROM store.span_rows;

-- What is needed of a span to say what the decisions around it take from it, without its content. said counts
-- the fields that are filled, which helps to say which of several records of one call stands for it.
CREATE OR REPLACE VIEW store.relative_rows AS
SELECT
    trace_id       AS trace_key,
    span_id        AS span_key,
    parent_span_id AS parent_key,
    kind,
    start_ns,
    end_ns,
    scope,
    response_id,
    agent_name,
    model_provider,
    model_name,
    model_response_name,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    cache_write_tokens,
    reasoning_tokens,
    coalesce(input, input_ref) IS NOT NULL   AS has_input,
    coalesce(output, output_ref) IS NOT NULL AS has_output,
    len(list_filter([
        model_provider, model_name, model_response_name, model_parameters, tools, tools_ref, response_id, error_type,
        error_message, session_id, user_id, agent_name, prompt_name, prompt_version, metadata,
        CAST(input_tokens AS VARCHAR), CAST(output_tokens AS VARCHAR), CAST(cache_read_tokens AS VARCHAR),
        CAST(cache_write_tokens AS VARCHAR), CAST(reasoning_tokens AS VARCHAR), CAST(finish_reasons AS VARCHAR),
        CAST(tags AS VARCHAR)
    ], lambda field: field IS NOT NULL))     AS said,
    position                                 AS place_key
FROM store.span_rows;

-- Which log records add content to a span.
CREATE OR REPLACE VIEW store.logged_rows AS
SELECT trace_id AS trace_key, span_id AS span_key, input IS NOT NULL AS has_input, output IS NOT NULL AS has_output
FROM store.logs
WHERE trace_id IS NOT NULL AND span_id IS NOT NULL AND (input IS NOT NULL OR output IS NOT NULL);

-- Every span as a place in its trace.
CREATE OR REPLACE VIEW store.tree_rows AS
SELECT
    trace_id       AS trace_key,
    span_id        AS span_key,
    parent_span_id AS parent_key,
    kind,
    name,
    status_message,
    start_ns,
    position
FROM store.span_rows;
