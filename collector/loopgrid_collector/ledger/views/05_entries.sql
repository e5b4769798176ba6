-- What has been said and stands: an entry that a withdrawal speaks of is left out, and what it took the place of
-- stands again. An anti-join on the id, so that it stays a hash join whatever is asked around it.
CREATE OR REPLACE VIEW store.standing_rows AS
SELECT said.*
FROM store.entries AS said
ANTI JOIN (SELECT subject_id FROM store.entries WHERE entry_type = 'withdrawal') AS withdrawn
    ON withdrawn.subject_id = said.entry_id;

-- Everything that was ever said, with the decision it is about.
CREATE OR REPLACE VIEW store.said_rows AS
SELECT *, replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id
FROM store.entries;
