-- name: prompt_texts
-- The versions of a prompt on record, and the texts each of them has had, those apart that were cut or redacted.
SELECT prompt_version AS version,
       list(DISTINCT prompt_template) FILTER (
           prompt_template IS NOT NULL
           AND NOT contains(coalesce(array_to_string(lossiness, ' '), ''), 'prompt.template')
       ) AS templates
FROM decisions WHERE prompt_name = $name
GROUP BY prompt_version ORDER BY min(started_at), prompt_version;

-- name: prompt_names
-- The names of all prompts on record.
SELECT DISTINCT prompt_name AS name FROM decisions WHERE prompt_name IS NOT NULL ORDER BY name;
