-- The public views of the ledger (docs/spec/ledger.md). Stable names, stable columns.
--
-- Every timestamp is UTC. JSON columns always parse. A null says "not recorded", never "empty".
-- Views whose names end in _rows stand in `store`, carry the physical keys (trace_key, span_key) and are
-- there for the server's own look-ups; everybody else reads the views in `main`.

-- Every span: what was received, and what the dialects made of it. overlay.sql replaces this view in a ledger that
-- holds renormalised rows, so that all others pay nothing for the possibility.
CREATE OR REPLACE VIEW store.span_rows AS
SELECT * FROM store.spans;

-- Messages that arrived in log records, put together per span. Where a record carries the whole content of its call,
-- records with single messages say the same once more.
CREATE OR REPLACE VIEW store.log_content_rows AS
SELECT
    trace_id AS trace_key,
    span_id  AS span_key,
    '[' || coalesce(
        string_agg(substr(input, 2, length(input) - 2), ',' ORDER BY position) FILTER (WHERE whole),
        string_agg(substr(input, 2, length(input) - 2), ',' ORDER BY position) FILTER (WHERE NOT whole)
    ) || ']' AS input,
    '[' || coalesce(
        string_agg(substr(system, 2, length(system) - 2), ',' ORDER BY position) FILTER (WHERE whole),
        string_agg(substr(system, 2, length(system) - 2), ',' ORDER BY position) FILTER (WHERE NOT whole)
    ) || ']' AS system,
    '[' || coalesce(
        string_agg(substr(output, 2, length(output) - 2), ',' ORDER BY position) FILTER (WHERE whole),
        string_agg(substr(output, 2, length(output) - 2), ',' ORDER BY position) FILTER (WHERE NOT whole)
    ) || ']' AS output
FROM (
    SELECT
        trace_id, span_id, input, system, output, position,
        coalesce(event_name, json_extract_string(attributes, '$."event.name"'), '')
            = 'gen_ai.client.inference.operation.details' AS whole
    FROM store.logs
    WHERE trace_id IS NOT NULL AND span_id IS NOT NULL
      AND (input IS NOT NULL OR system IS NOT NULL OR output IS NOT NULL)
)
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
        l.input IS NOT NULL OR l.output IS NOT NULL                                                    AS content_in_logs
    FROM store.span_rows AS s
    LEFT JOIN store.log_content_rows AS l ON l.trace_key = s.trace_id AND l.span_key = s.span_id
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
    CASE WHEN kind IN ('decision', 'inference') THEN list_filter(
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
    EXISTS (SELECT 1 FROM store.entries AS e WHERE e.entry_type = 'mark'
            AND e.trace_id = joined.trace_id AND e.span_id = joined.span_id)         AS incorrect,
    EXISTS (SELECT 1 FROM store.entries AS e WHERE e.entry_type = 'correction'
            AND e.trace_id = joined.trace_id AND e.span_id = joined.span_id)         AS corrected,
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
    joined.start_ns AS start_key
FROM joined;

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
    ], lambda field: field IS NOT NULL))     AS said
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

-- Which spans ran inside a decorated (or recorded) decision: the nearest one above them.
CREATE OR REPLACE VIEW store.inside_rows AS
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT trace_id, span_id, parent_span_id
    FROM store.span_rows
    WHERE parent_span_id IS NOT NULL AND kind <> 'decision'
),
inside AS (
    SELECT trace_id, span_id AS owner_span_id, span_id, 0 AS depth
    FROM store.span_rows
    WHERE kind = 'decision'
    UNION ALL
    SELECT child.trace_id, inside.owner_span_id, child.span_id, inside.depth + 1
    FROM inside
    JOIN edges AS child ON child.trace_id = inside.trace_id AND child.parent_span_id = inside.span_id
)
SELECT trace_id AS trace_key, span_id AS span_key, owner_span_id AS owner_key, depth
FROM inside
WHERE depth > 0;

-- Model calls that several instrumentations recorded: the records that do not stand for the call, and the one that
-- does (docs/spec/decision-record.md). Two records are of one call if both state the provider's response id, or if
-- one is an ancestor of the other with the same model, its time range around it, and at most transport between them.
-- The first two steps read every span; what follows reads only what they found, which is mostly nothing.
CREATE OR REPLACE VIEW store.duplicate_rows AS
WITH RECURSIVE repeated AS (
    -- Hashes, because two ids that share one by chance are told apart below.
    SELECT hash(response_id) AS mark
    FROM store.span_rows
    WHERE kind IN ('decision', 'inference') AND response_id IS NOT NULL
    GROUP BY mark
    HAVING count(*) > 1
),
-- Span ids alone first: they are eight bytes and mostly unique, and reading trace ids is what costs.
suspects AS (
    SELECT DISTINCT lower_.span_id
    FROM store.span_rows AS lower_
    SEMI JOIN (
        SELECT span_id FROM store.span_rows
        WHERE kind = 'inference' OR (kind = 'other' AND parent_span_id IS NOT NULL)
    ) AS upper_ ON upper_.span_id = lower_.parent_span_id
    WHERE lower_.kind = 'inference'
),
lowers AS (
    SELECT s.trace_id, s.span_id, s.parent_span_id, s.start_ns, s.end_ns, s.response_id, s.model_name, s.model_response_name
    FROM suspects
    JOIN store.span_rows AS s ON s.span_id = suspects.span_id
    WHERE s.kind = 'inference'
),
edges AS (
    SELECT lowers.*, upper_.span_id AS upper_id
    FROM lowers
    JOIN store.span_rows AS upper_ ON upper_.trace_id = lowers.trace_id AND upper_.span_id = lowers.parent_span_id
    WHERE upper_.kind = 'inference'
    UNION ALL
    SELECT lowers.*, transport.parent_span_id
    FROM lowers
    JOIN store.span_rows AS transport
      ON transport.trace_id = lowers.trace_id AND transport.span_id = lowers.parent_span_id
    WHERE transport.kind = 'other' AND transport.parent_span_id IS NOT NULL
),
nested AS (
    SELECT below.trace_id, below.span_id AS lower_id, above.span_id AS upper_id
    FROM edges AS below
    JOIN store.span_rows AS above ON above.trace_id = below.trace_id AND above.span_id = below.upper_id
    WHERE above.kind = 'inference'
      AND below.start_ns >= above.start_ns AND below.end_ns <= above.end_ns
      AND coalesce(below.response_id = above.response_id, true)
      AND coalesce(below.model_name = above.model_name, below.model_response_name = above.model_response_name, false)
),
-- Some servers give the same id again, so an id alone proves nothing: two records of one call overlap in time, and
-- one instrumentation sees a call once.
timed AS (
    SELECT
        s.trace_id, s.span_id, s.response_id, s.scope, s.start_ns, s.end_ns,
        coalesce(s.model_response_name, s.model_name) AS model,
        max(s.end_ns) OVER (
            PARTITION BY s.response_id ORDER BY s.start_ns, s.end_ns DESC, s.span_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) < s.start_ns AS apart
    FROM store.span_rows AS s
    JOIN repeated ON repeated.mark = hash(s.response_id)
    WHERE s.kind IN ('decision', 'inference') AND s.response_id IS NOT NULL
),
islands AS (
    SELECT *, count(*) FILTER (apart) OVER (
        PARTITION BY response_id ORDER BY start_ns, end_ns DESC, span_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS island
    FROM timed
),
seen AS (
    SELECT *, row_number() OVER (PARTITION BY response_id, island, scope ORDER BY start_ns, span_id) AS turn
    FROM islands
),
twins AS (
    SELECT mine.trace_id, mine.span_id, yours.trace_id AS twin_trace, yours.span_id AS twin_span
    FROM seen AS mine
    JOIN seen AS yours
      ON yours.response_id = mine.response_id AND yours.island = mine.island AND yours.turn = mine.turn
     AND yours.scope <> mine.scope AND coalesce(yours.model = mine.model, true)
    UNION
    SELECT trace_id, lower_id, trace_id, upper_id FROM nested
    UNION
    SELECT trace_id, upper_id, trace_id, lower_id FROM nested
),
members AS (
    SELECT DISTINCT trace_id, span_id FROM twins
),
climb AS (
    SELECT trace_id, span_id, span_id AS at_id, false AS arrived, 0 AS depth
    FROM members
    UNION
    SELECT climb.trace_id, climb.span_id, at_.parent_span_id, above.kind = 'decision', climb.depth + 1
    FROM climb
    JOIN store.span_rows AS at_ ON at_.trace_id = climb.trace_id AND at_.span_id = climb.at_id
    JOIN store.span_rows AS above ON above.trace_id = climb.trace_id AND above.span_id = at_.parent_span_id
    WHERE NOT climb.arrived AND climb.depth < 128
),
owned AS (
    SELECT trace_id, span_id, at_id AS owner_id, depth FROM climb WHERE arrived
),
ranked AS (
    SELECT
        s.trace_key AS trace_id,
        s.span_key  AS span_id,
        s.kind,
        owned.owner_id,
        owned.depth,
        (
            CASE WHEN s.kind = 'decision' THEN 2 WHEN owned.owner_id IS NOT NULL THEN 1 ELSE 0 END,
            CASE WHEN s.has_input OR l.input IS NOT NULL THEN 1 ELSE 0 END
                + CASE WHEN s.has_output OR l.output IS NOT NULL THEN 1 ELSE 0 END,
            s.said,
            -CAST(s.start_ns AS HUGEINT),
            s.end_ns,
            s.trace_key,
            s.span_key
        ) AS standing
    FROM members
    JOIN store.relative_rows AS s ON s.trace_key = members.trace_id AND s.span_key = members.span_id
    LEFT JOIN owned ON owned.trace_id = s.trace_key AND owned.span_id = s.span_key
    LEFT JOIN store.log_content_rows AS l ON l.trace_key = s.trace_key AND l.span_key = s.span_key
)
SELECT
    mine.trace_id                              AS trace_key,
    mine.span_id                               AS span_key,
    mine.owner_id                              AS owner_key,
    arg_max(yours.trace_id, yours.standing)    AS twin_trace_key,
    arg_max(yours.span_id, yours.standing)     AS twin_key,
    arg_max(coalesce(yours.owner_id, yours.span_id), yours.standing) AS twin_owner_key,
    arg_max(coalesce(yours.depth, 0), yours.standing)                AS twin_depth
FROM twins
JOIN ranked AS mine ON mine.trace_id = twins.trace_id AND mine.span_id = twins.span_id
JOIN ranked AS yours ON yours.trace_id = twins.twin_trace AND yours.span_id = twins.twin_span
WHERE mine.kind = 'inference' AND yours.standing > mine.standing
GROUP BY mine.trace_id, mine.span_id, mine.owner_id;

-- Which spans are part of a decision and none themselves: they ran inside it, or they record the same model call.
CREATE OR REPLACE VIEW store.step_rows AS
SELECT trace_key, span_key, trace_key AS owner_trace_key, owner_key, depth
FROM store.inside_rows
UNION ALL
SELECT trace_key, span_key, twin_trace_key, twin_owner_key, twin_depth + 1
FROM store.duplicate_rows
WHERE owner_key IS NULL;

-- What the model calls inside a decision used, each call counted once. A model field is said where all calls that
-- say it agree.
CREATE OR REPLACE VIEW store.usage_rows AS
SELECT
    step.owner_trace_key,
    step.owner_key,
    CASE WHEN count(DISTINCT s.model_provider) = 1 THEN any_value(s.model_provider) END           AS model_provider,
    CASE WHEN count(DISTINCT s.model_name) = 1 THEN any_value(s.model_name) END                   AS model_name,
    CASE WHEN count(DISTINCT s.model_response_name) = 1 THEN any_value(s.model_response_name) END AS model_response_name,
    TRY_CAST(sum(s.input_tokens) AS BIGINT)                                                       AS input_tokens,
    TRY_CAST(sum(s.output_tokens) AS BIGINT)                                                      AS output_tokens,
    TRY_CAST(sum(s.cache_read_tokens) AS BIGINT)                                                  AS cache_read_tokens,
    TRY_CAST(sum(s.cache_write_tokens) AS BIGINT)                                                 AS cache_write_tokens,
    TRY_CAST(sum(s.reasoning_tokens) AS BIGINT)                                                   AS reasoning_tokens
FROM store.step_rows AS step
-- The columns by name: left to itself DuckDB carries whole spans through this join.
JOIN (
    SELECT
        trace_id, span_id, model_provider, model_name, model_response_name, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens
    FROM store.span_rows
    WHERE kind = 'inference'
) AS s ON s.trace_id = step.trace_key AND s.span_id = step.span_key
ANTI JOIN store.duplicate_rows AS twin ON twin.trace_key = step.trace_key AND twin.span_key = step.span_key
GROUP BY step.owner_trace_key, step.owner_key;

-- The name of the nearest agent above a span.
CREATE OR REPLACE VIEW store.agent_rows AS
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT trace_id, span_id, parent_span_id
    FROM store.span_rows
    WHERE parent_span_id IS NOT NULL AND NOT (kind = 'agent' AND agent_name IS NOT NULL)
),
below AS (
    SELECT trace_id, span_id, agent_name
    FROM store.span_rows
    WHERE kind = 'agent' AND agent_name IS NOT NULL
    UNION ALL
    SELECT child.trace_id, child.span_id, below.agent_name
    FROM below
    JOIN edges AS child ON child.trace_id = below.trace_id AND child.parent_span_id = below.span_id
)
SELECT trace_id AS trace_key, span_id AS span_key, any_value(agent_name) AS agent_name
FROM below
GROUP BY trace_id, span_id;

-- What a decision takes from the spans around it, one row a key. One relation, because DuckDB leaves one such left
-- join out of a query that asks for none of its columns, and keeps two.
CREATE OR REPLACE VIEW store.kin_rows AS
SELECT
    trace_key,
    span_key,
    any_value(agent_name)          AS agent_name,
    any_value(model_provider)      AS model_provider,
    any_value(model_name)          AS model_name,
    any_value(model_response_name) AS model_response_name,
    any_value(input_tokens)        AS input_tokens,
    any_value(output_tokens)       AS output_tokens,
    any_value(cache_read_tokens)   AS cache_read_tokens,
    any_value(cache_write_tokens)  AS cache_write_tokens,
    any_value(reasoning_tokens)    AS reasoning_tokens
FROM (
    SELECT owner_trace_key AS trace_key, owner_key AS span_key, * EXCLUDE (owner_trace_key, owner_key) FROM store.usage_rows
    UNION ALL BY NAME
    FROM store.agent_rows
)
GROUP BY trace_key, span_key;

-- Decisions with their physical keys, each as its own span states it.
CREATE OR REPLACE VIEW store.decision_rows AS
SELECT d.*
FROM store.record_rows AS d
ANTI JOIN store.step_rows AS step ON step.trace_key = d.trace_key AND step.span_key = d.span_key
WHERE d.kind IN ('decision', 'inference');

-- The same with what they take from the spans around them: usage and model of the model calls inside, where the
-- decision states none itself, and the name of the nearest agent above.
CREATE OR REPLACE VIEW store.completed_rows AS
SELECT d.* REPLACE (
    coalesce(d.agent_name, kin.agent_name)                                                       AS agent_name,
    CASE WHEN d.model_source IS NULL THEN kin.model_provider ELSE d.model_provider END           AS model_provider,
    CASE WHEN d.model_source IS NULL THEN kin.model_name ELSE d.model_name END                   AS model_name,
    CASE WHEN d.model_source IS NULL THEN kin.model_response_name ELSE d.model_response_name END AS model_response_name,
    CASE WHEN d.usage_source IS NULL THEN kin.input_tokens ELSE d.input_tokens END               AS input_tokens,
    CASE WHEN d.usage_source IS NULL THEN kin.output_tokens ELSE d.output_tokens END             AS output_tokens,
    CASE WHEN d.usage_source IS NULL THEN kin.cache_read_tokens ELSE d.cache_read_tokens END     AS cache_read_tokens,
    CASE WHEN d.usage_source IS NULL THEN kin.cache_write_tokens ELSE d.cache_write_tokens END   AS cache_write_tokens,
    CASE WHEN d.usage_source IS NULL THEN kin.reasoning_tokens ELSE d.reasoning_tokens END       AS reasoning_tokens,
    coalesce(d.model_source, CASE WHEN coalesce(kin.model_provider, kin.model_name, kin.model_response_name)
        IS NOT NULL THEN 'steps' END)                                                            AS model_source,
    coalesce(d.usage_source, CASE WHEN coalesce(kin.input_tokens, kin.output_tokens, kin.cache_read_tokens,
        kin.cache_write_tokens, kin.reasoning_tokens) IS NOT NULL THEN 'steps' END)              AS usage_source
)
FROM store.decision_rows AS d
LEFT JOIN store.kin_rows AS kin ON kin.trace_key = d.trace_key AND kin.span_key = d.span_key;

-- One row per decision: decorated, recorded, or a model call that no such decision contains.
CREATE OR REPLACE VIEW main.decisions AS
SELECT * EXCLUDE (trace_key, span_key, start_key)
FROM store.completed_rows;

-- Decisions that may be the same model call as the one before, with no sign that proves it: the same service, model
-- and input at overlapping times, or at most a tenth of a second later. Sums over decisions count both. Logfire records
-- a stream's answer in a span of no length at its end, and says beside it how long it took.
CREATE OR REPLACE VIEW main.possible_duplicates AS
WITH calls AS (
    SELECT
        d.decision_id,
        d.service_name,
        coalesce(d.model_name, d.model_response_name) AS model,
        hash(CAST(d.input AS VARCHAR))                AS input_hash,
        s.scope,
        s.position,
        greatest(s.start_ns, s.end_ns)                AS end_ns,
        CAST(s.start_ns AS HUGEINT) - CASE WHEN json_extract_string(s.attributes, '$."logfire.span_type"') = 'log'
            THEN coalesce(TRY_CAST(1e9 * TRY_CAST(json_extract_string(s.attributes, '$.duration') AS DOUBLE) AS HUGEINT), 0)
            ELSE 0 END                                AS start_ns
    FROM store.record_rows AS d
    JOIN store.span_rows AS s ON s.trace_id = d.trace_key AND s.span_id = d.span_key
    ANTI JOIN store.duplicate_rows AS twin ON twin.trace_key = d.trace_key AND twin.span_key = d.span_key
    WHERE d.kind = 'inference' AND d.input IS NOT NULL
),
following AS (
    SELECT *, arg_max({'decision_id': decision_id, 'end_ns': end_ns, 'scope': scope}, end_ns) OVER (
        PARTITION BY service_name, model, input_hash ORDER BY start_ns, position
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before
    FROM calls
)
SELECT
    decision_id,
    before.decision_id     AS possible_duplicate_of,
    service_name,
    model,
    scope = before.scope   AS same_scope
FROM following
WHERE start_ns <= before.end_ns + 100000000;

-- Agents and workflows below which no decision and no model call arrived: what they say about themselves is all
-- there is. They are not among the decisions, and their tokens are in no sum over decisions.
CREATE OR REPLACE VIEW main.aggregates AS
WITH RECURSIVE above AS (
    SELECT trace_id, parent_span_id AS span_id
    FROM store.span_rows
    WHERE kind IN ('decision', 'inference') AND parent_span_id IS NOT NULL
    UNION
    SELECT s.trace_id, s.parent_span_id
    FROM above
    JOIN store.span_rows AS s ON s.trace_id = above.trace_id AND s.span_id = above.span_id
    WHERE s.parent_span_id IS NOT NULL
),
alone AS (
    SELECT
        d.*,
        s.name,
        json_extract_string(s.attributes, [
            '$."gen_ai.usage.input_tokens"', '$."gen_ai.usage.prompt_tokens"', '$."gen_ai.aggregated_usage.input_tokens"',
            '$."ai.usage.inputTokens"', '$."ai.usage.promptTokens"', '$."llm.token_count.prompt"'
        ]) AS read,
        json_extract_string(s.attributes, [
            '$."gen_ai.usage.output_tokens"', '$."gen_ai.usage.completion_tokens"', '$."gen_ai.aggregated_usage.output_tokens"',
            '$."ai.usage.outputTokens"', '$."ai.usage.completionTokens"', '$."llm.token_count.completion"'
        ]) AS written
    FROM store.record_rows AS d
    JOIN store.span_rows AS s ON s.trace_id = d.trace_key AND s.span_id = d.span_key
    ANTI JOIN above ON above.trace_id = d.trace_key AND above.span_id = d.span_key
    WHERE d.kind = 'agent'
)
SELECT
    trace_id,
    span_id,
    name,
    dialect,
    service_name,
    agent_name,
    status,
    input,
    output,
    list_filter([TRY_CAST(said AS BIGINT) FOR said IN read], lambda tokens: tokens IS NOT NULL)[1]    AS input_tokens,
    list_filter([TRY_CAST(said AS BIGINT) FOR said IN written], lambda tokens: tokens IS NOT NULL)[1] AS output_tokens,
    session_id,
    user_id,
    started_at,
    duration_ms,
    recorded_at,
    commit_id
FROM alone;

-- One row per judgement that a sender attached to a span: `gen_ai.evaluation.result` events, and OpenInference's
-- annotations and evaluations. These are what senders say; marks and corrections are said here.
CREATE OR REPLACE VIEW main.evaluations AS
WITH told AS (
    SELECT trace_id, span_id, 'log' AS source, attributes, recorded_at, commit_id
    FROM store.logs
    WHERE trace_id IS NOT NULL AND span_id IS NOT NULL
      AND coalesce(event_name, json_extract_string(attributes, '$."event.name"')) = 'gen_ai.evaluation.result'
    UNION ALL
    SELECT trace_id, span_id, 'span_event', CAST(json_extract(event, '$.attributes') AS VARCHAR), recorded_at, commit_id
    FROM (
        SELECT *, unnest(json_extract(events, '$[*]')) AS event
        FROM store.span_rows
        WHERE contains(events, 'gen_ai.evaluation.result')
    )
    WHERE json_extract_string(event, '$.name') = 'gen_ai.evaluation.result'
),
flat AS (
    SELECT DISTINCT trace_id, span_id, attributes, recorded_at, commit_id, regexp_extract(
        key, '^((annotations|evaluations)\.[0-9]+\.(annotation|evaluation))\.', 1
    ) AS place
    FROM (
        SELECT *, unnest(json_keys(attributes)) AS key
        FROM store.span_rows
        WHERE contains(attributes, '"annotations.') OR contains(attributes, '"evaluations.')
    )
    WHERE place <> ''
),
said AS (
    SELECT
        trace_id, span_id, source, recorded_at, commit_id,
        json_extract_string(attributes, '$."gen_ai.evaluation.name"')        AS name,
        json_extract_string(attributes, '$."gen_ai.evaluation.score.label"') AS label,
        json_extract_string(attributes, '$."gen_ai.evaluation.score.value"') AS score,
        json_extract_string(attributes, '$."gen_ai.evaluation.explanation"') AS explanation,
        coalesce(
            json_extract_string(attributes, '$."gen_ai.evaluation.evaluator.type"'),
            json_extract_string(attributes, '$."loopgrid.evaluator.type"')
        )                                                                    AS annotator_kind
    FROM told
    UNION ALL
    SELECT
        trace_id, span_id, 'attributes', recorded_at, commit_id,
        json_extract_string(attributes, '$."' || place || '.name"'),
        json_extract_string(attributes, '$."' || place || '.label"'),
        json_extract_string(attributes, '$."' || place || '.score"'),
        json_extract_string(attributes, '$."' || place || '.explanation"'),
        json_extract_string(attributes, '$."' || place || '.annotator_kind"')
    FROM flat
)
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id,
    source,
    name,
    label,
    TRY_CAST(score AS DOUBLE)                                                        AS score,
    explanation,
    lower(annotator_kind)                                                            AS annotator_kind,
    recorded_at,
    commit_id
FROM said;

-- One row per span, as received.
CREATE OR REPLACE VIEW main.spans AS
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '')                                      AS trace_id,
    format('{:016x}', span_id)                                                       AS span_id,
    format('{:016x}', parent_span_id)                                                AS parent_span_id,
    service_name,
    name,
    CASE span_kind WHEN 1 THEN 'internal' WHEN 2 THEN 'server' WHEN 3 THEN 'client'
                   WHEN 4 THEN 'producer' WHEN 5 THEN 'consumer' END                 AS span_kind,
    kind,
    dialect,
    CASE WHEN start_ns > 0 THEN make_timestamp(CAST(start_ns // 1000 AS BIGINT)) END AS start_time,
    CASE WHEN end_ns > 0 THEN make_timestamp(CAST(end_ns // 1000 AS BIGINT)) END     AS end_time,
    start_ns,
    end_ns,
    CASE status_code WHEN 1 THEN 'ok' WHEN 2 THEN 'error' END                        AS status,
    status_message,
    CAST(attributes AS JSON)                                                         AS attributes,
    json_extract(resource, '$.attributes')                                           AS resource,
    CAST(scope AS JSON)                                                              AS scope,
    CAST(events AS JSON)                                                             AS events,
    CAST(links AS JSON)                                                              AS links,
    trace_state,
    flags,
    dropped_attributes,
    dropped_events,
    dropped_links,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                                                               AS digest
FROM store.span_rows;

-- One row per span inside a decision. Sums over model calls leave out those that are a duplicate_of another.
CREATE OR REPLACE VIEW main.steps AS
SELECT
    replace(CAST(s.trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', s.span_id)           AS decision_id,
    replace(CAST(step.owner_trace_key AS VARCHAR), '-', '') || '-' || format('{:016x}', step.owner_key) AS owner_decision_id,
    step.depth,
    s.kind,
    s.name,
    s.dialect,
    s.service_name,
    CASE s.status_code WHEN 1 THEN 'ok' WHEN 2 THEN 'error' END                                    AS status,
    d.input,
    d.output,
    s.model_provider,
    s.model_name,
    s.model_response_name,
    s.input_tokens,
    s.output_tokens,
    s.cache_read_tokens,
    s.cache_write_tokens,
    s.reasoning_tokens,
    s.error_type,
    CASE WHEN s.start_ns > 0 THEN make_timestamp(CAST(s.start_ns // 1000 AS BIGINT)) END           AS started_at,
    CASE WHEN s.start_ns > 0 AND s.end_ns > 0
         THEN CAST(CAST(s.end_ns AS HUGEINT) - CAST(s.start_ns AS HUGEINT) AS DOUBLE) / 1e6 END    AS duration_ms,
    s.recorded_at,
    s.commit_id,
    replace(CAST(twin.twin_trace_key AS VARCHAR), '-', '') || '-' || format('{:016x}', twin.twin_key) AS duplicate_of
FROM store.step_rows AS step
JOIN store.span_rows AS s ON s.trace_id = step.trace_key AND s.span_id = step.span_key
JOIN store.record_rows AS d ON d.trace_key = step.trace_key AND d.span_key = step.span_key
LEFT JOIN store.duplicate_rows AS twin ON twin.trace_key = step.trace_key AND twin.span_key = step.span_key;

-- One row per OpenTelemetry event: log records, and events carried on spans.
CREATE OR REPLACE VIEW main.events AS
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', '')                                      AS trace_id,
    format('{:016x}', span_id)                                                       AS span_id,
    'log'                                                                            AS source,
    event_name                                                                       AS name,
    CASE WHEN time_ns > 0 THEN make_timestamp(CAST(time_ns // 1000 AS BIGINT))
         WHEN observed_ns > 0 THEN make_timestamp(CAST(observed_ns // 1000 AS BIGINT)) END AS time,
    severity_number,
    severity_text,
    service_name,
    CAST(body AS JSON)                                                               AS body,
    CAST(attributes AS JSON)                                                         AS attributes,
    recorded_at,
    commit_id,
    lower(hex(digest))                                                               AS digest
FROM store.logs
UNION ALL
SELECT
    replace(CAST(trace_id AS VARCHAR), '-', ''),
    format('{:016x}', span_id),
    'span',
    json_extract_string(event, '$.name'),
    make_timestamp(CAST(CAST(json_extract_string(event, '$.time_ns') AS UBIGINT) // 1000 AS BIGINT)),
    NULL,
    NULL,
    service_name,
    NULL,
    json_extract(event, '$.attributes'),
    recorded_at,
    commit_id,
    lower(hex(digest))
FROM (SELECT *, unnest(json_extract(events, '$[*]')) AS event FROM store.span_rows WHERE events IS NOT NULL);

-- One row per mark: somebody said that the decision was incorrect.
CREATE OR REPLACE VIEW main.marks AS
SELECT
    entry_id                                                                         AS mark_id,
    replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id,
    json_extract_string(body, '$.reason')                                            AS reason,
    actor                                                                            AS marked_by,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                                                               AS digest
FROM store.entries
WHERE entry_type = 'mark';

-- One row per correction: the output a human says is right.
CREATE OR REPLACE VIEW main.corrections AS
SELECT
    entry_id                                                                         AS correction_id,
    replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id,
    json_extract(body, '$.output')                                                   AS output,
    actor                                                                            AS corrected_by,
    json_extract_string(body, '$.reason')                                            AS reason,
    json_extract_string(body, '$.supersedes')                                        AS supersedes,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                                                               AS digest
FROM store.entries
WHERE entry_type = 'correction';

-- One row per corrected decision: its newest correction.
CREATE OR REPLACE VIEW main.ground_truth AS
SELECT decision_id, output, correction_id, corrected_by, recorded_at
FROM main.corrections
QUALIFY row_number() OVER (PARTITION BY decision_id ORDER BY position DESC) = 1;

-- One row per replay. What ran is known by the decision that carries the replay's id, and by nothing else.
CREATE OR REPLACE VIEW main.replays AS
WITH requests AS (
    SELECT
        *,
        replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id
    FROM store.entries
    WHERE entry_type = 'replay' AND subject_id IS NULL
),
transitions AS (
    SELECT subject_id, arg_max(body, position) AS body, max(recorded_at) AS recorded_at
    FROM store.entries
    WHERE entry_type = 'replay' AND subject_id IS NOT NULL
    GROUP BY subject_id
),
results AS (
    SELECT
        replay_id,
        replay_of,
        arg_min(replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id), position) AS decision_id,
        arg_min(status_code, position) AS status_code,
        arg_min(concat_ws(': ', error_type, error_message), position) AS failure,
        min(recorded_at)               AS recorded_at
    FROM store.span_rows
    WHERE kind = 'decision' AND replay_id IS NOT NULL
    GROUP BY replay_id, replay_of
)
SELECT
    requests.entry_id                                                        AS replay_id,
    requests.decision_id                                                     AS decision_id,
    json_extract_string(requests.body, '$.executor')                         AS executor,
    json_extract(requests.body, '$.overrides')                               AS overrides,
    CASE
        WHEN results.decision_id IS NOT NULL AND results.status_code = 2 THEN 'failed'
        WHEN results.decision_id IS NOT NULL THEN 'completed'
        ELSE coalesce(json_extract_string(transitions.body, '$.status'), json_extract_string(requests.body, '$.status'))
    END                                                                      AS status,
    CASE
        WHEN results.decision_id IS NULL
            THEN coalesce(json_extract_string(transitions.body, '$.reason'), json_extract_string(requests.body, '$.reason'))
        WHEN results.status_code = 2 THEN nullif(results.failure, '')
    END                                                                      AS reason,
    results.decision_id                                                      AS result_decision_id,
    requests.actor                                                           AS requested_by,
    json_extract_string(requests.body, '$.idempotency_key')                  AS idempotency_key,
    requests.recorded_at                                                     AS requested_at,
    coalesce(results.recorded_at, transitions.recorded_at)                   AS completed_at,
    requests.commit_id                                                       AS commit_id,
    requests.position                                                        AS position
FROM requests
LEFT JOIN transitions ON transitions.subject_id = requests.entry_id
LEFT JOIN results ON results.replay_id = requests.entry_id AND results.replay_of = requests.decision_id;

-- One row per experiment.
CREATE OR REPLACE VIEW main.experiments AS
SELECT entry_id AS experiment_id, actor AS started_by, CAST(body AS JSON) AS definition, recorded_at AS started_at, commit_id
FROM store.entries
WHERE entry_type = 'experiment';

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
