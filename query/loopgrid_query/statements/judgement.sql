-- name: decision_marks
-- The marks of a decision, oldest first.
SELECT mark_id, decision_id, reason, marked_by, recorded_at, commit_id, digest
FROM marks WHERE decision_id = $decision_id ORDER BY commit_id, mark_id;

-- name: mark
-- One mark.
SELECT mark_id, decision_id, reason, marked_by, recorded_at
FROM marks WHERE mark_id = $mark_id;

-- name: decision_corrections
-- The corrections of a decision, oldest first.
SELECT correction_id, decision_id, output, corrected_by, reason, supersedes, recorded_at, commit_id, digest
FROM corrections WHERE decision_id = $decision_id ORDER BY commit_id, correction_id;

-- name: correction
-- One correction.
SELECT correction_id, decision_id, output, corrected_by, reason, supersedes, recorded_at
FROM corrections WHERE correction_id = $correction_id;

-- name: decision_ground_truth
-- The effective correction of a decision.
SELECT decision_id, output, correction_id, corrected_by, recorded_at
FROM ground_truth WHERE decision_id = $decision_id;
