-- name: export_head
-- The newest commit at or before a number and a moment.
SELECT commit_id, chain, recorded_at
FROM commits
WHERE commit_id <= $commit_id AND recorded_at <= $moment
ORDER BY commit_id DESC
LIMIT 1;

-- name: export_keys
-- The next decisions of an export by their commits, with what they take from the spans around them.
SELECT
    CAST(trace_key AS VARCHAR) AS trace_key, span_key, commit_id, decision_id, agent_name, model_provider, model_name,
    model_response_name, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens,
    model_source, usage_source, false AS straddles
FROM as_of_store_completed_rows
WHERE {filters}
  AND commit_id >= $after_commit AND (commit_id > $after_commit OR decision_id > $after_decision)
ORDER BY commit_id, decision_id
LIMIT $limit;

-- name: export_keys_at
-- The same, and whether the subject of a decision has decisions on both sides of a moment.
SELECT * FROM (
    SELECT
        CAST(trace_key AS VARCHAR) AS trace_key, span_key, commit_id, decision_id, agent_name, model_provider, model_name,
        model_response_name, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens,
        model_source, usage_source,
        coalesce(min(started_at) OVER subject < $split_at AND max(started_at) OVER subject >= $split_at, false) AS straddles
    FROM as_of_store_completed_rows
    WHERE {filters}
    WINDOW subject AS (PARTITION BY
        session_id,
        CASE WHEN session_id IS NULL THEN user_id END,
        CASE WHEN session_id IS NULL AND user_id IS NULL THEN decision_id END
    )
)
WHERE commit_id >= $after_commit AND (commit_id > $after_commit OR decision_id > $after_decision)
ORDER BY commit_id, decision_id
LIMIT $limit;

-- name: export_page
-- The decisions of one page, whole, with ground truth and marks; JSON as the text it is stored as.
SELECT
    d.* EXCLUDE (trace_key, span_key, start_key, place_key) REPLACE (
        CAST(d.input AS VARCHAR)            AS input,
        CAST(d.output AS VARCHAR)           AS output,
        CAST(d.prompt_variables AS VARCHAR) AS prompt_variables,
        CAST(d.model_parameters AS VARCHAR) AS model_parameters,
        CAST(d.tools AS VARCHAR)            AS tools,
        CAST(d.metadata AS VARCHAR)         AS metadata,
        page.agent_name                     AS agent_name,
        page.model_provider                 AS model_provider,
        page.model_name                     AS model_name,
        page.model_response_name            AS model_response_name,
        page.input_tokens                   AS input_tokens,
        page.output_tokens                  AS output_tokens,
        page.cache_read_tokens              AS cache_read_tokens,
        page.cache_write_tokens             AS cache_write_tokens,
        page.reasoning_tokens               AS reasoning_tokens,
        page.model_source                   AS model_source,
        page.usage_source                   AS usage_source
    ),
    CAST(truth.output AS VARCHAR) AS truth_output,
    truth.correction_id           AS correction_id,
    truth.corrected_by            AS corrected_by,
    truth.recorded_at             AS corrected_at,
    truth.digest                  AS correction_digest,
    said.marks                    AS marks,
    page.straddles                AS straddles
FROM as_of_store_record_rows AS d
JOIN page ON CAST(page.trace_key AS UUID) = d.trace_key AND page.span_key = d.span_key
LEFT JOIN ({truth}) AS truth ON truth.decision_id = d.decision_id
LEFT JOIN (
    SELECT decision_id, CAST(to_json(list({
        'mark_id': mark_id, 'reason': reason, 'marked_by': marked_by,
        'recorded_at': strftime(recorded_at, '%Y-%m-%dT%H:%M:%S.%fZ')
    } ORDER BY commit_id, mark_id)) AS VARCHAR) AS marks
    FROM as_of_main_marks
    GROUP BY decision_id
) AS said ON said.decision_id = d.decision_id
WHERE d.commit_id >= $first AND d.commit_id <= $last
ORDER BY d.commit_id, d.decision_id;

-- name: export_truth_latest
-- The ground truth of every decision under the policy `latest`.
SELECT truth.decision_id, truth.output, truth.correction_id, truth.corrected_by, truth.recorded_at, said.digest
FROM as_of_main_ground_truth AS truth
JOIN as_of_main_corrections AS said ON said.correction_id = truth.correction_id

-- name: export_truth_majority
-- The ground truth of every decision under the policy `majority`.
SELECT truth.decision_id, truth.output, truth.correction_id, truth.corrected_by, truth.recorded_at, said.digest
FROM as_of_main_ground_truth_majority AS truth
JOIN as_of_main_corrections AS said ON said.correction_id = truth.correction_id

-- name: export_truth_adjudicated
-- The ground truth of every decision under the policy `adjudicated`.
SELECT truth.decision_id, truth.output, truth.correction_id, truth.corrected_by, truth.recorded_at, said.digest
FROM as_of_main_ground_truth_adjudicated AS truth
JOIN as_of_main_corrections AS said ON said.correction_id = truth.correction_id

-- name: ground_truth_as_of
-- The ground truth of one decision under a policy, where the reader shows the state of a commit.
SELECT decision_id, output, correction_id, corrected_by, recorded_at, policy, disputed
FROM as_of_store_truth_rows
WHERE policy = $policy AND decision_id = $decision_id;

-- name: export_standing
-- What some decisions rest on now, and what was marked or withdrawn since a commit.
SELECT asked.decision_id, truth.correction_id, truth.corrected_by, coalesce(said.marks, 0) AS marks,
       coalesce(gone.withdrawn, []) AS withdrawn
FROM page AS asked
LEFT JOIN ({truth}) AS truth ON truth.decision_id = asked.decision_id
LEFT JOIN (
    SELECT decision_id, count(*) AS marks FROM as_of_main_marks WHERE commit_id > $since GROUP BY decision_id
) AS said ON said.decision_id = asked.decision_id
LEFT JOIN (
    SELECT before.decision_id, list(before.judgement_id ORDER BY before.position) AS withdrawn
    FROM as_of_main_judgements AS before
    JOIN as_of_main_judgements AS withdrawal
        ON withdrawal.event = 'withdrawal' AND withdrawal.subject_id = before.judgement_id
    WHERE before.event IN ('mark', 'correction') AND before.commit_id <= $since AND withdrawal.commit_id > $since
    GROUP BY before.decision_id
) AS gone ON gone.decision_id = asked.decision_id
ORDER BY asked.decision_id;
