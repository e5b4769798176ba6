-- One row per API key there ever was. The secret is nowhere; its digest is not shown.
CREATE OR REPLACE VIEW main.keys AS
WITH revoked AS (
    SELECT
        json_extract_string(body, '$.key_id')                                    AS key_id,
        min(CAST(json_extract_string(body, '$.effective_at') AS TIMESTAMP))      AS revoked_at,
        arg_min(json_extract_string(body, '$.revoked_by'), position)             AS revoked_by
    FROM store.entries
    WHERE entry_type = 'key_revoked'
    GROUP BY ALL
)
SELECT
    json_extract_string(k.body, '$.key_id')                                      AS key_id,
    json_extract_string(k.body, '$.name')                                        AS name,
    json_extract_string(k.body, '$.person')                                      AS person,
    CAST(json_extract(k.body, '$.scopes') AS VARCHAR[])                          AS scopes,
    CAST(json_extract(k.body, '$.services') AS VARCHAR[])                        AS services,
    CAST(json_extract_string(k.body, '$.expires_at') AS TIMESTAMP)               AS expires_at,
    json_extract_string(k.body, '$.created_by')                                  AS created_by,
    json_extract_string(k.body, '$.rotated_from')                                AS rotated_from,
    r.revoked_at,
    r.revoked_by,
    k.recorded_at,
    k.commit_id
FROM store.entries AS k
LEFT JOIN revoked AS r ON r.key_id = json_extract_string(k.body, '$.key_id')
WHERE k.entry_type = 'key';

-- One row per request that read or wrote content with a key, and per refused attempt. Where more came than were recorded
-- singly, a row without a door says how many (attempts).
CREATE OR REPLACE VIEW main.access_log AS
SELECT
    CAST(json_extract_string(body, '$.at') AS TIMESTAMP)                         AS accessed_at,
    json_extract_string(body, '$.key_id')                                        AS key_id,
    json_extract_string(body, '$.door')                                          AS door,
    json_extract_string(body, '$.method')                                        AS method,
    json_extract_string(body, '$.route')                                         AS route,
    CAST(json_extract_string(body, '$.status') AS INTEGER)                       AS status,
    coalesce(CAST(json_extract(body, '$.decision_ids') AS VARCHAR[]), [])        AS decision_ids,
    CAST(json_extract_string(body, '$.decisions') AS BIGINT)                     AS decisions,
    json_extract_string(body, '$.statement_sha256')                              AS statement_sha256,
    json_extract_string(body, '$.request_id')                                    AS request_id,
    json_extract_string(body, '$.reason')                                        AS reason,
    json_extract_string(body, '$.address')                                       AS address,
    CAST(json_extract_string(body, '$.attempts') AS BIGINT)                      AS attempts,
    recorded_at,
    commit_id,
    lower(hex(digest))                                                           AS digest
FROM store.entries
WHERE entry_type = 'access';
