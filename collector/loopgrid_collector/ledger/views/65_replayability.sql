-- Why decisions cannot be replayed exactly: how many of a service's decisions in a dialect have each reason, and their
-- share of all of that service and dialect. A decision counts once for each of its reasons, and has at least one.
CREATE OR REPLACE VIEW main.replayability AS
WITH judged AS (
    SELECT
        service_name,
        dialect,
        replayability,
        list_filter([
            CASE WHEN len(list_filter(codes, lambda code: starts_with(code, 'content_off'))) > 0 THEN 'content_off'
                 WHEN input IS NULL THEN 'input_missing' END,
            CASE WHEN len(list_filter(codes, lambda code:
                     starts_with(code, 'input') AND (contains(code, ':truncated') OR code = 'input:unparsable'))) > 0
                 THEN 'input_truncated' END,
            CASE WHEN len(list_filter(codes, lambda code:
                     starts_with(code, 'input') AND code NOT IN ('input_missing', 'input:unparsable', 'input:defaults_left_out')
                     AND NOT contains(code, ':truncated') AND NOT contains(code, ':redacted'))) > 0
                 THEN 'input_incomplete' END,
            CASE WHEN len(list_filter(codes, lambda code:
                     starts_with(code, 'masked:') OR starts_with(code, 'scrubbed:') OR contains(code, ':redacted'))) > 0
                 THEN 'redacted' END,
            CASE WHEN len(list_filter(codes, lambda code: starts_with(code, 'elsewhere:'))) > 0
                 THEN 'content_elsewhere' END,
            CASE WHEN len(list_filter(codes, lambda code: starts_with(code, 'attributes_dropped'))) > 0
                 THEN 'attributes_dropped' END,
            CASE WHEN list_contains(codes, 'continued') THEN 'server_side_conversation' END,
            CASE WHEN kind = 'decision' AND "function" IS NULL THEN 'function_unknown' END,
            CASE WHEN kind = 'decision' AND prompt_name IS NOT NULL AND prompt_template IS NULL
                 THEN 'template_missing' END,
            CASE WHEN kind = 'inference' AND model_name IS NULL THEN 'model_unknown' END,
            CASE WHEN kind = 'inference' AND model_response_name <> model_name THEN 'model_alias' END,
            CASE WHEN kind = 'inference' AND model_parameters IS NULL THEN 'parameters_missing' END,
            CASE WHEN kind = 'inference' AND tools IS NULL
                      AND list_has_any(finish_reasons, ['tool_call', 'tool_calls', 'tool_use'])
                 THEN 'tools_missing' END,
            CASE replayability WHEN 'rebuildable' THEN 'code_not_recorded' WHEN 'approximate' THEN 'model_not_pinned' END
        ], lambda reason: reason IS NOT NULL) AS found
    FROM (SELECT *, coalesce(lossiness, []) AS codes FROM main.decisions)
    WHERE replayability <> 'exact'
),
sizes AS (
    SELECT service_name, dialect, count(*) AS decisions FROM main.decisions GROUP BY ALL
),
reasons AS (
    SELECT service_name, dialect, replayability, unnest(CASE WHEN len(found) > 0 THEN found ELSE ['unknown'] END) AS reason
    FROM judged
)
SELECT r.service_name, r.dialect, r.replayability, r.reason, count(*) AS decisions,
       count(*) / any_value(s.decisions) AS share
FROM reasons AS r
JOIN sizes AS s ON s.service_name IS NOT DISTINCT FROM r.service_name AND s.dialect IS NOT DISTINCT FROM r.dialect
GROUP BY ALL;
