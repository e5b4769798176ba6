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
