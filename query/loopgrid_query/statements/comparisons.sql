-- name: comparison_spans
-- The spans of a trace with what a comparison needs of them: their place, tool calls, prompts as they were sent.
SELECT
    d.span_id,
    d.parent_span_id,
    d.kind,
    coalesce(json_extract_string(s.attributes, '$."gen_ai.tool.name"'), s.name)   AS name,
    CASE WHEN d.kind = 'tool' THEN d.input END                                   AS input,
    json_extract_string(s.attributes, '$."loopgrid.prompt.rendered"')             AS rendered
FROM store.record_rows AS d
JOIN store.span_rows AS s ON s.trace_id = d.trace_key AND s.span_id = d.span_key
WHERE d.trace_key = CAST($trace_key AS UUID) AND s.trace_id = CAST($trace_key AS UUID)
ORDER BY s.start_ns, s.span_id
LIMIT $limit;
