-- name: troubled
SELECT looked.feature, label.body ->> 'status', label.body #>> '{choice,reason}'
FROM (
    SELECT position, feature, label_id FROM run_feature
    WHERE run_id = :run_id AND selected
    ORDER BY position
    LIMIT :most
) AS looked JOIN label ON label.id = looked.label_id
WHERE label.body ->> 'status' = ANY(CAST(:statuses AS text[]))
ORDER BY looked.feature;

-- name: agreement
SELECT said.output -> 'success' = 'true', said.output_llm -> 'success' = 'true', count(*)
FROM (
    SELECT position, feature, label_id FROM run_feature
    WHERE run_id = :run_id AND selected
    ORDER BY position
    LIMIT :most
) AS looked JOIN label ON label.id = looked.label_id,
    jsonb_to_record(label.body) AS said (output jsonb, output_llm jsonb)
WHERE jsonb_typeof(said.output -> 'success') = 'boolean' AND jsonb_typeof(said.output_llm -> 'success') = 'boolean'
GROUP BY 1, 2;
