-- Cost is a view over a price book, never a recorded fact: a price that becomes known later changes what it shows.

-- One row per price of the price books on record. Amounts are US dollars per million tokens, request_usd per request.
CREATE OR REPLACE VIEW main.prices AS
SELECT
    entry_id || '/' || CAST(n AS VARCHAR)                          AS price_id,
    entry_id                                                       AS book_id,
    source,
    json_extract_string(price, '$.provider')                       AS provider,
    json_extract_string(price, '$.model')                          AS model,
    CAST(json_extract_string(price, '$.valid_from') AS DATE)       AS valid_from,
    CAST(json_extract(price, '$.above_input_tokens') AS BIGINT)    AS above_input_tokens,
    CAST(json_extract(price, '$.input_usd') AS DOUBLE)             AS input_usd,
    CAST(json_extract(price, '$.output_usd') AS DOUBLE)            AS output_usd,
    CAST(json_extract(price, '$.cache_read_usd') AS DOUBLE)        AS cache_read_usd,
    CAST(json_extract(price, '$.cache_write_usd') AS DOUBLE)       AS cache_write_usd,
    CAST(json_extract(price, '$.reasoning_usd') AS DOUBLE)         AS reasoning_usd,
    CAST(json_extract(price, '$.request_usd') AS DOUBLE)           AS request_usd,
    recorded_at,
    commit_id,
    position
FROM (
    SELECT
        entry_id, recorded_at, commit_id, position,
        json_extract_string(body, '$.source')                      AS source,
        unnest(json_extract(body, '$.prices[*]'))                  AS price,
        generate_subscripts(json_extract(body, '$.prices[*]'), 1)  AS n
    FROM store.entries
    WHERE entry_type = 'price_book'
);

-- The model calls that a decision's cost is the sum of: itself where it states its usage, else the calls inside it,
-- each counted once.
CREATE OR REPLACE VIEW store.charged_rows AS
WITH deciding AS MATERIALIZED (
    SELECT
        trace_key, span_key, decision_id, started_at, usage_source, model_provider, model_name, model_response_name,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens
    FROM store.completed_rows
)
SELECT decision_id, span_key AS call_key, started_at, model_provider, model_name, model_response_name,
       input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens
FROM deciding
WHERE usage_source IS DISTINCT FROM 'steps'
UNION ALL
SELECT
    deciding.decision_id, s.span_id, coalesce(
        CASE WHEN s.start_ns > 0 THEN make_timestamp(CAST(s.start_ns // 1000 AS BIGINT)) END, deciding.started_at
    ),
    s.model_provider, s.model_name, s.model_response_name,
    s.input_tokens, s.output_tokens, s.cache_read_tokens, s.cache_write_tokens, s.reasoning_tokens
FROM deciding
JOIN store.step_rows AS step ON step.owner_trace_key = deciding.trace_key AND step.owner_key = deciding.span_key
JOIN (
    SELECT
        trace_id, span_id, start_ns, model_provider, model_name, model_response_name, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, reasoning_tokens
    FROM store.span_rows
    WHERE kind = 'inference'
) AS s ON s.trace_id = step.trace_key AND s.span_id = step.span_key
ANTI JOIN store.duplicate_rows AS twin ON twin.trace_key = step.trace_key AND twin.span_key = step.span_key
WHERE deciding.usage_source = 'steps';

-- One row per decision: what it cost by the price book that stands now. A null cost has a reason, and is no zero.
-- Of several prices that fit, the one of the model that answered goes before that of the model asked for, one for the
-- provider before one for any; then the newest validity, the highest tier reached, the newest book.
CREATE OR REPLACE VIEW main.costs AS
WITH calls AS MATERIALIZED (
    SELECT *, row_number() OVER () AS call FROM store.charged_rows
),
named AS (
    SELECT *, model_response_name AS model, 1 AS closeness FROM calls WHERE model_response_name IS NOT NULL
    UNION ALL
    SELECT *, model_name, 0 FROM calls WHERE model_name IS NOT NULL AND model_name IS DISTINCT FROM model_response_name
),
fitting AS (
    SELECT named.call, arg_max(price, (
        closeness, CAST(price.provider IS NOT NULL AS INTEGER), coalesce(price.valid_from, DATE '0001-01-01'),
        coalesce(price.above_input_tokens, -1), price.position, -CAST(split_part(price.price_id, '/', 2) AS INTEGER)
    )) AS price
    FROM named
    JOIN main.prices AS price ON price.model = named.model
    WHERE coalesce(price.provider = named.model_provider, price.provider IS NULL)
      AND (price.valid_from IS NULL OR price.valid_from <= named.started_at)
      AND (price.above_input_tokens IS NULL OR named.input_tokens > price.above_input_tokens)
    GROUP BY named.call
),
priced AS (
    SELECT
        calls.*,
        fitting.price.price_id AS price_id,
        -- A price of its own where there is one; otherwise a cached token costs what any input token costs.
        (
            greatest(calls.input_tokens - coalesce(calls.cache_read_tokens, 0) - coalesce(calls.cache_write_tokens, 0), 0)
                * fitting.price.input_usd
            + coalesce(calls.cache_read_tokens, 0) * coalesce(fitting.price.cache_read_usd, fitting.price.input_usd)
            + coalesce(calls.cache_write_tokens, 0) * coalesce(fitting.price.cache_write_usd, fitting.price.input_usd)
        ) / 1e6 AS input_cost_usd,
        (
            greatest(calls.output_tokens - CASE WHEN fitting.price.reasoning_usd IS NULL THEN 0
                                           ELSE coalesce(calls.reasoning_tokens, 0) END, 0) * fitting.price.output_usd
            + CASE WHEN fitting.price.reasoning_usd IS NULL THEN 0
                   ELSE coalesce(calls.reasoning_tokens, 0) * fitting.price.reasoning_usd END
        ) / 1e6 AS output_cost_usd,
        coalesce(fitting.price.request_usd, 0) AS request_cost_usd,
        -- A model that writes no tokens (an embedding) has no price for them.
        fitting.price.price_id IS NOT NULL AND fitting.price.output_usd IS NULL
            AND coalesce(calls.output_tokens, 0) = 0 AS writes_nothing
    FROM calls
    LEFT JOIN fitting ON fitting.call = calls.call
),
judged AS (
    SELECT
        *,
        CASE WHEN writes_nothing THEN 0 ELSE output_cost_usd END AS written_usd,
        CASE
            WHEN coalesce(model_response_name, model_name) IS NULL THEN 'model_unknown'
            WHEN coalesce(input_tokens, output_tokens) IS NULL THEN 'usage_unknown'
            WHEN price_id IS NULL THEN 'price_unknown'
            WHEN input_tokens IS NULL OR (output_tokens IS NULL AND NOT writes_nothing) THEN 'usage_incomplete'
            WHEN input_cost_usd IS NULL OR (output_cost_usd IS NULL AND NOT writes_nothing) THEN 'price_incomplete'
        END AS reason
    FROM priced
)
SELECT
    decision_id,
    CASE WHEN bool_and(reason IS NULL) THEN sum(input_cost_usd + written_usd + request_cost_usd) END AS cost_usd,
    CASE WHEN bool_and(reason IS NULL) THEN sum(input_cost_usd) END                                  AS input_cost_usd,
    CASE WHEN bool_and(reason IS NULL) THEN sum(written_usd) END                                     AS output_cost_usd,
    min(reason)                                                                                      AS unpriced_reason,
    count(*)                                                                                         AS model_calls,
    count(*) FILTER (reason IS NOT NULL)                                                             AS unpriced_calls,
    list(DISTINCT price_id) FILTER (price_id IS NOT NULL)                                            AS price_ids
FROM judged
GROUP BY decision_id;
