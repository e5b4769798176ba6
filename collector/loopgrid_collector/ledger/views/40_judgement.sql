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
        )                                                                    AS annotator_kind,
        coalesce(
            json_extract_string(attributes, '$."gen_ai.evaluation.evaluator.id"'),
            json_extract_string(attributes, '$."loopgrid.evaluator.id"')
        )                                                                    AS evaluator_id,
        json_extract_string(attributes, '$."loopgrid.judgement.id"')         AS judgement_id,
        json_extract_string(attributes, '$."loopgrid.judgement.subject_id"') AS subject_id,
        json_extract_string(attributes, '$."loopgrid.correction.output"')    AS output
    FROM told
    UNION ALL
    SELECT
        trace_id, span_id, 'attributes', recorded_at, commit_id,
        json_extract_string(attributes, '$."' || place || '.name"'),
        json_extract_string(attributes, '$."' || place || '.label"'),
        json_extract_string(attributes, '$."' || place || '.score"'),
        json_extract_string(attributes, '$."' || place || '.explanation"'),
        json_extract_string(attributes, '$."' || place || '.annotator_kind"'),
        NULL, NULL, NULL, NULL
    FROM flat
)
SELECT
    replace(CAST(said.trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', said.span_id) AS decision_id,
    said.source,
    said.name,
    said.label,
    TRY_CAST(said.score AS DOUBLE)                                                   AS score,
    said.explanation,
    lower(said.annotator_kind)                                                       AS annotator_kind,
    said.recorded_at,
    said.commit_id,
    said.evaluator_id,
    said.judgement_id,
    said.subject_id,
    CASE WHEN json_valid(said.output) THEN CAST(said.output AS JSON) END             AS output,
    -- The same content is the same evaluation, whichever way and however often it came.
    'evl_' || left(sha256(CAST(to_json([
        CAST(said.trace_id AS VARCHAR), CAST(said.span_id AS VARCHAR), said.name, said.label, said.score,
        said.explanation, lower(said.annotator_kind), said.evaluator_id, said.judgement_id, said.subject_id, said.output
    ]) AS VARCHAR)), 32)                                                             AS evaluation_id
FROM said
-- What was said in this ledger and came back to it is there already.
ANTI JOIN store.entries AS own
    ON own.entry_id = said.judgement_id AND own.trace_id = said.trace_id AND own.span_id = said.span_id;

-- One row per thing that a person said about a decision, in the order of position, also what was withdrawn since.
-- event: `mark` (it was incorrect), `approval` (it was correct), `correction`, `agreement`, `dispute`, `withdrawal`,
-- `adjudication`; the last four speak of subject_id.
CREATE OR REPLACE VIEW main.judgements AS
SELECT
    said.entry_id                                                                    AS judgement_id,
    replace(CAST(said.trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', said.span_id) AS decision_id,
    said.entry_type                                                                  AS event,
    said.subject_id,
    said.actor                                                                       AS said_by,
    json_extract_string(said.body, '$.reason')                                       AS reason,
    json_extract_string(said.body, '$.category')                                     AS category,
    json_extract_string(said.body, '$.severity')                                     AS severity,
    json_extract(said.body, '$.output')                                              AS output,
    json_extract(said.body, '$.patch')                                               AS patch,
    withdrawn.subject_id IS NOT NULL                                                 AS withdrawn,
    said.recorded_at,
    said.commit_id,
    said.position,
    lower(hex(said.digest))                                                          AS digest,
    json_extract(said.body, '$.evaluation')                                          AS evaluation
FROM store.entries AS said
LEFT JOIN (SELECT DISTINCT subject_id FROM store.entries WHERE entry_type = 'withdrawal') AS withdrawn
    ON withdrawn.subject_id = said.entry_id
WHERE said.entry_type IN ('mark', 'approval', 'correction', 'agreement', 'dispute', 'withdrawal', 'adjudication');

-- One row per mark that stands: somebody said that the decision was incorrect.
CREATE OR REPLACE VIEW main.marks AS
SELECT
    entry_id                                                                         AS mark_id,
    replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id) AS decision_id,
    json_extract_string(body, '$.reason')                                            AS reason,
    actor                                                                            AS marked_by,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                                                               AS digest,
    json_extract_string(body, '$.category')                                          AS category,
    json_extract_string(body, '$.severity')                                          AS severity
FROM store.standing_rows
WHERE entry_type = 'mark';

-- One row per correction that was not withdrawn: the output a human says is right.
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
    lower(hex(digest))                                                               AS digest,
    json_extract(body, '$.patch')                                                    AS patch,
    json_extract_string(body, '$.category')                                          AS category,
    json_extract_string(body, '$.severity')                                          AS severity
FROM store.standing_rows
WHERE entry_type = 'correction';

-- What each correction says is right, as SHA-256 of a canonical form: the same for the same JSON value, whatever the
-- order of members and however a number is written. A value is its leaves and containers, each with the way down to
-- it; the names on the way are a list, because json_tree escapes nothing in its paths. Only corrections of one decision
-- are compared, so it is worked out where their texts differ, and the text will do elsewhere.
CREATE OR REPLACE VIEW store.canonical_rows AS
WITH RECURSIVE said AS (
    SELECT entry_id, trace_id, span_id, json_extract(body, '$.output') AS output
    FROM store.entries
    WHERE entry_type = 'correction'
),
differing AS (
    SELECT trace_id, span_id FROM said GROUP BY ALL HAVING count(DISTINCT CAST(output AS VARCHAR)) > 1
),
node AS MATERIALIZED (
    SELECT contested.entry_id, tree.id, tree.parent, tree.key, tree.type, CAST(tree.atom AS VARCHAR) AS atom
    FROM (
        FROM said SEMI JOIN differing ON differing.trace_id = said.trace_id AND differing.span_id = said.span_id
    ) AS contested, json_tree(contested.output) AS tree
),
placed AS (
    SELECT entry_id, id, CAST([] AS VARCHAR[]) AS place, type, atom FROM node WHERE parent IS NULL
    UNION ALL
    SELECT node.entry_id, node.id, list_append(placed.place, node.key), node.type, node.atom
    FROM placed
    JOIN node ON node.entry_id = placed.entry_id AND node.parent = placed.id
),
written AS (
    SELECT entry_id, CAST(to_json({
        'place': place,
        'type': CASE WHEN type IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN 'number' ELSE type END,
        'value': CASE
            WHEN type IN ('BIGINT', 'UBIGINT') OR (type = 'DOUBLE' AND regexp_full_match(atom, '-?[0-9]+')) THEN atom
            WHEN type = 'DOUBLE' AND CAST(atom AS DOUBLE) = trunc(CAST(atom AS DOUBLE))
                THEN coalesce(CAST(TRY_CAST(CAST(atom AS DOUBLE) AS HUGEINT) AS VARCHAR), CAST(CAST(atom AS DOUBLE) AS VARCHAR))
            WHEN type = 'DOUBLE' THEN CAST(CAST(atom AS DOUBLE) AS VARCHAR)
            ELSE atom
        END
    }) AS VARCHAR) AS line
    FROM placed
)
SELECT entry_id, sha256(string_agg(line, chr(10) ORDER BY line)) AS output_sha256
FROM written
GROUP BY entry_id
UNION ALL
SELECT said.entry_id, sha256(CAST(said.output AS VARCHAR))
FROM said
ANTI JOIN differing ON differing.trace_id = said.trace_id AND differing.span_id = said.span_id;

-- Which correction is the truth of a decision under each policy. `latest`: the one said last, by attaching it or by
-- adjudicating for it. `adjudicated`: the one that the newest adjudication chose. `majority`: the output that more
-- than half of all who took a stance support; equal outputs count together, as JSON values, one person has one vote, and whoever
-- only disputes has one for none. A null author counts as a person of its own.
CREATE OR REPLACE VIEW store.truth_rows AS
WITH correction AS (SELECT * FROM store.standing_rows WHERE entry_type = 'correction'),
adjudication AS (
    SELECT said.trace_id, said.span_id, said.subject_id AS correction_id, said.position
    FROM store.standing_rows AS said
    JOIN correction ON correction.entry_id = said.subject_id
    WHERE said.entry_type = 'adjudication'
),
stance AS (
    SELECT
        said.trace_id, said.span_id, said.position,
        coalesce(lower(trim(said.actor)), said.entry_id) AS voter,
        target.entry_id AS target_id,
        said.entry_type <> 'dispute' AS supports,
        canonical.output_sha256 AS output
    FROM store.standing_rows AS said
    JOIN store.standing_rows AS target
        ON target.entry_id = CASE WHEN said.entry_type IN ('correction', 'approval')
                                  THEN said.entry_id ELSE said.subject_id END
    LEFT JOIN store.canonical_rows AS canonical ON canonical.entry_id = target.entry_id
    WHERE said.entry_type IN ('correction', 'approval', 'agreement', 'dispute')
      AND target.entry_type IN ('correction', 'approval')
    QUALIFY row_number() OVER (
        PARTITION BY said.trace_id, said.span_id, coalesce(lower(trim(said.actor)), said.entry_id), target.entry_id
        ORDER BY said.position DESC
    ) = 1
),
vote AS (
    SELECT trace_id, span_id, voter, output
    FROM stance
    WHERE supports
    QUALIFY row_number() OVER (PARTITION BY trace_id, span_id, voter ORDER BY position DESC) = 1
),
tally AS (
    SELECT trace_id, span_id, output, count(*) AS votes FROM vote WHERE output IS NOT NULL GROUP BY ALL
),
electorate AS (
    SELECT trace_id, span_id, count(DISTINCT voter) AS voters FROM stance GROUP BY ALL
),
latest AS (
    SELECT correction_id
    FROM (
        SELECT trace_id, span_id, entry_id AS correction_id, position FROM correction
        UNION ALL
        SELECT trace_id, span_id, correction_id, position FROM adjudication
    )
    QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY position DESC) = 1
),
adjudicated AS (
    SELECT correction_id
    FROM adjudication
    QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY position DESC) = 1
),
majority AS (
    SELECT correction.entry_id AS correction_id
    FROM tally
    JOIN electorate ON electorate.trace_id = tally.trace_id AND electorate.span_id = tally.span_id
    JOIN correction ON correction.trace_id = tally.trace_id AND correction.span_id = tally.span_id
    JOIN store.canonical_rows AS canonical
        ON canonical.entry_id = correction.entry_id AND canonical.output_sha256 = tally.output
    WHERE 2 * tally.votes > electorate.voters
    QUALIFY row_number() OVER (
        PARTITION BY correction.trace_id, correction.span_id ORDER BY correction.position DESC
    ) = 1
),
chosen AS (
    SELECT 'latest' AS policy, correction_id FROM latest
    UNION ALL
    SELECT 'majority', correction_id FROM majority
    UNION ALL
    SELECT 'adjudicated', correction_id FROM adjudicated
),
settled AS (
    SELECT trace_id, span_id, max(position) AS position
    FROM store.standing_rows
    WHERE entry_type = 'adjudication'
    GROUP BY ALL
),
disputed AS (
    SELECT DISTINCT dispute.trace_id, dispute.span_id
    FROM store.standing_rows AS dispute
    JOIN store.standing_rows AS target ON target.entry_id = dispute.subject_id
    LEFT JOIN settled ON settled.trace_id = dispute.trace_id AND settled.span_id = dispute.span_id
    WHERE dispute.entry_type = 'dispute' AND (settled.position IS NULL OR dispute.position > settled.position)
)
SELECT
    replace(CAST(correction.trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', correction.span_id) AS decision_id,
    json_extract(correction.body, '$.output')                                                              AS output,
    correction.entry_id                                                                                    AS correction_id,
    correction.actor                                                                                       AS corrected_by,
    correction.recorded_at,
    chosen.policy,
    disputed.trace_id IS NOT NULL                                                                          AS disputed
FROM chosen
JOIN correction ON correction.entry_id = chosen.correction_id
LEFT JOIN disputed ON disputed.trace_id = correction.trace_id AND disputed.span_id = correction.span_id;

-- One row per corrected decision: its correction under the policy `latest`. disputed: somebody disputes what was said
-- about the decision, and no adjudication has come since.
CREATE OR REPLACE VIEW main.ground_truth AS
SELECT * FROM store.truth_rows WHERE policy = 'latest';

-- One row per decision on whose output more than half of those who took a stance agree.
CREATE OR REPLACE VIEW main.ground_truth_majority AS
SELECT * FROM store.truth_rows WHERE policy = 'majority';

-- One row per decision that was adjudicated: the correction that was chosen, while it stands.
CREATE OR REPLACE VIEW main.ground_truth_adjudicated AS
SELECT * FROM store.truth_rows WHERE policy = 'adjudicated';

-- Outcomes as they were reported: here, or by log records (`loopgrid.outcome`), of which nobody knows who sent them.
-- place: JSON pointer to the business key in metadata.
CREATE OR REPLACE VIEW store.outcome_rows AS
WITH told AS (
    SELECT
        entry_id                              AS outcome_id,
        json_extract_string(body, '$.key')    AS key,
        json_extract_string(body, '$.value')  AS value,
        json_extract(body, '$.outcome')       AS outcome,
        CAST(json_extract_string(body, '$.occurred_at') AS TIMESTAMP) AS occurred_at,
        actor                                 AS reported_by,
        'entry'                               AS source,
        recorded_at, commit_id, position, digest
    FROM store.standing_rows
    WHERE entry_type = 'outcome'
    UNION ALL
    SELECT
        'out_' || left(lower(hex(digest)), 32),
        json_extract_string(attributes, '$."loopgrid.outcome.key"'),
        json_extract_string(attributes, '$."loopgrid.outcome.value"'),
        CASE WHEN json_valid(json_extract_string(attributes, '$."loopgrid.outcome.result"'))
             THEN CAST(json_extract_string(attributes, '$."loopgrid.outcome.result"') AS JSON)
             ELSE to_json(json_extract_string(attributes, '$."loopgrid.outcome.result"')) END,
        CASE WHEN time_ns > 0 THEN make_timestamp(CAST(time_ns // 1000 AS BIGINT)) END,
        NULL,
        'sender',
        recorded_at, commit_id, position, digest
    FROM store.logs
    WHERE event_name = 'loopgrid.outcome'
      AND json_extract_string(attributes, '$."loopgrid.outcome.key"') IS NOT NULL
      AND json_extract_string(attributes, '$."loopgrid.outcome.value"') IS NOT NULL
)
SELECT
    outcome_id, key,
    '/' || replace(replace(key, '~', '~0'), '/', '~1') AS place,
    value, outcome, occurred_at, reported_by, source, recorded_at, commit_id, position,
    lower(hex(digest)) AS digest
FROM told;

-- One row per outcome and decision that states its business key (a fact of the same name and value in metadata); one
-- with nulls where no decision does yet. decisions and outcomes count who shares the key, so that ambiguity shows.
CREATE OR REPLACE VIEW main.outcomes AS
WITH reported AS (SELECT * FROM store.outcome_rows),
names AS (SELECT DISTINCT key, place, CAST(to_json(key) AS VARCHAR) AS written FROM reported),
stated AS (
    SELECT
        replace(CAST(span.trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span.span_id) AS decision_id,
        names.key,
        json_extract_string(span.metadata, names.place) AS value
    FROM store.span_rows AS span
    -- Only to read less; where a letter is written as an escape, the name may stand there in another form.
    JOIN names ON contains(span.metadata, names.written) OR contains(span.metadata, '\')
    WHERE span.kind = 'decision'
)
SELECT
    reported.outcome_id,
    stated.decision_id,
    reported.key,
    reported.value,
    reported.outcome,
    reported.occurred_at,
    reported.reported_by,
    count(stated.decision_id) OVER (PARTITION BY reported.outcome_id)                   AS decisions,
    CASE WHEN stated.decision_id IS NULL THEN 1
         ELSE count(*) OVER (PARTITION BY stated.decision_id, reported.key) END          AS outcomes,
    reported.recorded_at,
    reported.commit_id,
    reported.position,
    reported.digest,
    reported.source
FROM reported
LEFT JOIN stated ON stated.key = reported.key AND stated.value = reported.value;
