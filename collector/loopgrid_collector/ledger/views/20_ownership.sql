-- Which spans ran inside a decorated (or recorded) decision: the nearest one above them.
CREATE OR REPLACE VIEW store.inside_rows AS
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT trace_id, span_id, parent_span_id, position
    FROM store.span_rows
    WHERE parent_span_id IS NOT NULL AND kind <> 'decision'
),
inside AS (
    SELECT trace_id, span_id AS owner_span_id, span_id, position, 0 AS depth
    FROM store.span_rows
    WHERE kind = 'decision'
    UNION ALL
    SELECT child.trace_id, inside.owner_span_id, child.span_id, child.position, inside.depth + 1
    FROM inside
    JOIN edges AS child ON child.trace_id = inside.trace_id AND child.parent_span_id = inside.span_id
)
SELECT trace_id AS trace_key, span_id AS span_key, owner_span_id AS owner_key, depth, position AS place_key
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
        s.place_key,
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
    arg_max(coalesce(yours.depth, 0), yours.standing)                AS twin_depth,
    mine.place_key
FROM twins
JOIN ranked AS mine ON mine.trace_id = twins.trace_id AND mine.span_id = twins.span_id
JOIN ranked AS yours ON yours.trace_id = twins.twin_trace AND yours.span_id = twins.twin_span
WHERE mine.kind = 'inference' AND yours.standing > mine.standing
GROUP BY mine.trace_id, mine.span_id, mine.owner_id, mine.place_key;

-- Which spans are part of a decision and none themselves: they ran inside it, or they record the same model call.
CREATE OR REPLACE VIEW store.step_rows AS
SELECT trace_key, span_key, trace_key AS owner_trace_key, owner_key, depth, place_key
FROM store.inside_rows
UNION ALL
SELECT trace_key, span_key, twin_trace_key, twin_owner_key, twin_depth + 1, place_key
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
    -- Every step that is no repeated record ran inside another span.
    WHERE kind = 'inference' AND parent_span_id IS NOT NULL
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
WHERE d.kind IN ('decision', 'inference') AND d.place_key NOT IN (SELECT place_key FROM store.step_rows);

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
