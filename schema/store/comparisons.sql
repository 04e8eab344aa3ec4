-- name: between
-- Where both runs came to one label, its body is not read.
SELECT feature, change, before, after
FROM (
    SELECT feature, before, after,
           CASE
               WHEN before_id IS NOT DISTINCT FROM after_id THEN 'same'
               WHEN before ->> 'label' IS NULL AND after ->> 'label' IS NOT NULL THEN 'new'
               WHEN before ->> 'label' IS NOT NULL AND after ->> 'label' IS NULL THEN 'lost'
               WHEN before ->> 'label' IS DISTINCT FROM after ->> 'label' THEN 'changed'
               WHEN before IS DISTINCT FROM after THEN 'rescored'
               ELSE 'same'
           END AS change
    FROM (
        SELECT mine.feature, theirs.label_id AS before_id, mine.label_id AS after_id,
               CASE WHEN old.id IS NOT NULL THEN jsonb_build_object(
                   'label', old.body -> 'text', 'status', old.body -> 'status', 'method', old.body -> 'method',
                   'input_lift', old.body #> '{input,lift}',
                   'output_lift', coalesce(nullif(old.body -> 'output', 'null'), old.body -> 'output_llm') -> 'lift')
               END AS before,
               CASE WHEN new.id IS NOT NULL THEN jsonb_build_object(
                   'label', new.body -> 'text', 'status', new.body -> 'status', 'method', new.body -> 'method',
                   'input_lift', new.body #> '{input,lift}',
                   'output_lift', coalesce(nullif(new.body -> 'output', 'null'), new.body -> 'output_llm') -> 'lift')
               END AS after
        FROM run_feature AS mine
        JOIN run_feature AS theirs ON theirs.run_id = :against AND theirs.feature = mine.feature AND theirs.selected
        LEFT JOIN label AS old ON old.id = theirs.label_id
        LEFT JOIN label AS new ON new.id = mine.label_id
        WHERE mine.run_id = :run_id AND mine.selected AND mine.feature > :after
    ) AS compared
) AS differences
WHERE change = ANY(CAST(:changes AS text[]))
ORDER BY feature
LIMIT :most;
