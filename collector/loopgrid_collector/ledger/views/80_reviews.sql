-- Everything that happened to review queues, in order: what the server rebuilds their state from.
CREATE OR REPLACE VIEW store.review_event_rows AS
SELECT
    entry_id,
    entry_type,
    CASE WHEN entry_type = 'review' THEN entry_id ELSE subject_id END                         AS review_id,
    CASE WHEN span_id <> 0
        THEN replace(CAST(trace_id AS VARCHAR), '-', '') || '-' || format('{:016x}', span_id)
    END                                                                                       AS decision_id,
    actor,
    body,
    recorded_at,
    commit_id,
    position,
    digest
FROM store.entries
WHERE entry_type IN
    ('review', 'review_claim', 'review_release', 'review_skip', 'review_answer', 'review_closed');

-- One row per review queue: which decisions people are asked about, and how these were chosen.
CREATE OR REPLACE VIEW main.reviews AS
WITH closed AS (
    SELECT review_id, min(recorded_at) AS closed_at, arg_min(actor, position) AS closed_by
    FROM store.review_event_rows
    WHERE entry_type = 'review_closed'
    GROUP BY review_id
)
SELECT
    r.review_id,
    json_extract_string(r.body, '$.name')                                        AS name,
    json_extract_string(r.body, '$.selection.method')                            AS method,
    json_extract(r.body, '$.selection')                                          AS selection,
    len(CAST(json_extract(r.body, '$.decision_ids') AS VARCHAR[]))               AS items,
    CAST(json_extract_string(r.body, '$.reviewers_per_item') AS BIGINT)          AS reviewers_per_item,
    CAST(json_extract_string(r.body, '$.lease_s') AS BIGINT)                     AS lease_s,
    r.actor                                                                      AS created_by,
    c.closed_at,
    c.closed_by,
    r.recorded_at,
    r.commit_id,
    lower(hex(r.digest))                                                         AS digest
FROM store.review_event_rows AS r
LEFT JOIN closed AS c ON c.review_id = r.review_id
WHERE r.entry_type = 'review';

-- One row per answer of a reviewer. What it said of the decision is the judgement that it brought forth.
CREATE OR REPLACE VIEW main.review_answers AS
SELECT
    entry_id                                                                     AS answer_id,
    review_id,
    decision_id,
    actor                                                                        AS reviewer,
    json_extract_string(body, '$.verdict')                                       AS verdict,
    json_extract_string(body, '$.judgement_id')                                  AS judgement_id,
    recorded_at,
    commit_id,
    position,
    lower(hex(digest))                                                           AS digest
FROM store.review_event_rows
WHERE entry_type = 'review_answer';

-- One row per decision of a review queue, in the queue's order.
CREATE OR REPLACE VIEW main.review_items AS
WITH item AS (
    SELECT
        review_id,
        unnest(CAST(json_extract(body, '$.decision_ids') AS VARCHAR[]))          AS decision_id,
        generate_subscripts(CAST(json_extract(body, '$.decision_ids') AS VARCHAR[]), 1) AS place,
        CAST(json_extract_string(body, '$.reviewers_per_item') AS BIGINT)        AS wanted
    FROM store.review_event_rows
    WHERE entry_type = 'review'
),
happened AS (
    SELECT
        review_id,
        decision_id,
        count(*) FILTER (WHERE entry_type = 'review_answer')                     AS answers,
        count(*) FILTER (WHERE entry_type = 'review_skip')                       AS skips
    FROM store.review_event_rows
    WHERE entry_type IN ('review_answer', 'review_skip')
    GROUP BY ALL
)
SELECT
    i.review_id,
    i.place,
    i.decision_id,
    coalesce(h.answers, 0)                                                       AS answers,
    coalesce(h.skips, 0)                                                         AS skips,
    coalesce(h.answers, 0) >= i.wanted                                           AS complete
FROM item AS i
LEFT JOIN happened AS h ON h.review_id = i.review_id AND h.decision_id = i.decision_id;
