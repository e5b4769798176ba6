-- name: decision_marks
-- The marks of a decision, oldest first.
SELECT mark_id, decision_id, reason, category, severity, marked_by, recorded_at, commit_id, digest
FROM marks WHERE decision_id = $decision_id ORDER BY commit_id, mark_id;

-- name: mark
-- One mark, also a withdrawn one: an idempotency key stands for it all the same.
SELECT judgement_id AS mark_id, decision_id, reason, category, severity, said_by AS marked_by, recorded_at
FROM judgements WHERE event = 'mark' AND judgement_id = $mark_id;

-- name: decision_corrections
-- The corrections of a decision, oldest first.
SELECT correction_id, decision_id, output, patch, corrected_by, reason, category, severity, supersedes, recorded_at,
       commit_id, digest
FROM corrections WHERE decision_id = $decision_id ORDER BY commit_id, correction_id;

-- name: correction
-- One correction, also a withdrawn one.
SELECT entry_id AS correction_id, decision_id,
       json_extract(body, '$.output') AS output, json_extract(body, '$.patch') AS patch, actor AS corrected_by,
       json_extract_string(body, '$.reason') AS reason, json_extract_string(body, '$.category') AS category,
       json_extract_string(body, '$.severity') AS severity, json_extract_string(body, '$.supersedes') AS supersedes,
       recorded_at
FROM store.said_rows WHERE entry_type = 'correction' AND entry_id = $correction_id;

-- name: decision_ground_truth
-- The effective correction of a decision.
SELECT decision_id, output, correction_id, corrected_by, recorded_at, policy, disputed
FROM store.truth_rows
WHERE policy = 'latest' AND decision_id = $decision_id;

-- name: decision_ground_truth_by
-- The effective correction of a decision under a policy.
SELECT decision_id, output, correction_id, corrected_by, recorded_at, policy, disputed
FROM store.truth_rows
WHERE policy = $policy AND decision_id = $decision_id;

-- name: judgement
-- One thing that was said, also when it was withdrawn since.
SELECT * EXCLUDE (position) FROM judgements WHERE judgement_id = $judgement_id;

-- name: decision_history
-- What was said and done about a decision since it was recorded, in order.
SELECT event, id, subject_id, said_by, reason, category, severity, output, patch, withdrawn, recorded_at, commit_id, digest
FROM (
    SELECT event, judgement_id AS id, subject_id, said_by, reason, category, severity, output, patch, withdrawn,
           recorded_at, commit_id, digest, position
    FROM judgements WHERE decision_id = $decision_id
    UNION ALL
    SELECT entry_type, entry_id, subject_id, actor, json_extract_string(body, '$.reason'), NULL, NULL,
           json_extract(body, '$.output'), NULL, false, recorded_at, commit_id, lower(hex(digest)), position
    FROM store.said_rows
    WHERE starts_with(entry_type, 'replay') AND decision_id = $decision_id
    UNION ALL
    SELECT 'outcome', outcome_id, NULL, reported_by, NULL, NULL, NULL, outcome, NULL, false,
           recorded_at, commit_id, digest, position
    FROM outcomes WHERE decision_id = $decision_id
)
ORDER BY position;

-- name: outcome
-- One outcome beside every decision that states its business key, at most a thousand.
SELECT * EXCLUDE (position, digest) FROM outcomes WHERE outcome_id = $outcome_id ORDER BY decision_id LIMIT 1000;

-- name: knows_outcome
-- Whether an outcome was reported under a business key among some metadata; reads no decision.
SELECT true AS known FROM store.outcome_rows
WHERE json_extract_string(CAST($metadata AS JSON), place) = value LIMIT 1;

-- name: decision_outcomes
-- The outcomes under the business keys of a decision, oldest first.
SELECT * EXCLUDE (position, digest) FROM outcomes WHERE decision_id = $decision_id ORDER BY position LIMIT 1000;

-- name: judgement_end
-- The position of what a person said last; null where nobody said anything.
SELECT max(position) AS position FROM judgements;

-- name: judgements_after
-- What people said after one position and up to another, in order, a page of it.
SELECT judgement_id, decision_id, event, subject_id, said_by, reason, category, severity,
       CAST(output AS VARCHAR) AS output, recorded_at, position
FROM judgements WHERE position > $after AND position <= $until ORDER BY position LIMIT $limit;

-- name: evaluations_to_accept
-- Evaluations of one name that nobody accepted yet and their sender did not take back, each once, the oldest first.
WITH chosen AS (
    SELECT evaluation_id, any_value(COLUMNS(* EXCLUDE (evaluation_id, commit_id, recorded_at, source, output))),
           any_value(CAST(output AS VARCHAR)) AS output, min(commit_id) AS commit_id
    FROM evaluations
    WHERE name = $name AND list_contains($labels, label) AND commit_id <= $until
      AND ($evaluator_id IS NULL OR evaluator_id = $evaluator_id)
      AND ($annotator_kind IS NULL OR annotator_kind = $annotator_kind)
    GROUP BY evaluation_id
)
SELECT chosen.*, accepted.entry_id IS NOT NULL AS accepted, taken_back.judgement_id IS NOT NULL AS taken_back,
       known.decision_id IS NOT NULL AS known
FROM chosen
LEFT JOIN (
    SELECT json_extract_string(body, '$.evaluation.evaluation_id') AS evaluation_id, min(entry_id) AS entry_id
    FROM store.entries WHERE entry_type IN ('mark', 'approval', 'correction') GROUP BY ALL
) AS accepted ON accepted.evaluation_id = chosen.evaluation_id
LEFT JOIN (
    SELECT DISTINCT decision_id, subject_id AS judgement_id FROM evaluations
    WHERE label = 'withdrawn' AND subject_id IS NOT NULL
) AS taken_back ON taken_back.judgement_id = chosen.judgement_id AND taken_back.decision_id = chosen.decision_id
LEFT JOIN (SELECT decision_id FROM decisions) AS known ON known.decision_id = chosen.decision_id
ORDER BY chosen.commit_id, chosen.evaluation_id;
