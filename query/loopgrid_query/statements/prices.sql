-- name: price_list
-- All prices on record, newest book first.
SELECT price_id, book_id, source, provider, model, CAST(valid_from AS VARCHAR) AS valid_from, above_input_tokens,
       input_usd, output_usd, cache_read_usd, cache_write_usd, reasoning_usd, request_usd, recorded_at
FROM prices
ORDER BY position DESC, price_id
LIMIT 10000;

-- name: unpriced_models
-- Models without a price that fits, and how many model calls each has on record.
WITH calls AS (
    SELECT model_provider, model_name, model_response_name, input_tokens, started_at
    FROM store.charged_rows
    WHERE coalesce(model_name, model_response_name) IS NOT NULL
),
fitted AS (
    SELECT *, EXISTS (
        SELECT 1 FROM prices AS price
        WHERE (price.model = calls.model_name OR price.model = calls.model_response_name)
          AND coalesce(price.provider = calls.model_provider, price.provider IS NULL)
          AND (price.valid_from IS NULL OR price.valid_from <= calls.started_at)
          AND (price.above_input_tokens IS NULL OR calls.input_tokens > price.above_input_tokens)
    ) AS fits
    FROM calls
)
SELECT model_provider, model_name, model_response_name, count(*) AS model_calls
FROM fitted
WHERE NOT fits
GROUP BY ALL
ORDER BY model_calls DESC, model_provider, model_name, model_response_name
LIMIT 1000;
