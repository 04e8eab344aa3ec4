-- name: between
-- Where both runs came to one label, its body is read only for the page. Without OFFSET the planner would put all
-- bodies together before it compares the ids.
WITH said AS NOT MATERIALIZED (
    SELECT id, jsonb_build_object(
               'label', body -> 'text', 'status', body -> 'status', 'method', body -> 'method',
               'input_lift', body #> '{input,lift}',
               'output_lift', coalesce(nullif(body -> 'output', 'null'), body -> 'output_llm') -> 'lift') AS state
    FROM label
)
SELECT feature, change, coalesce(before, (SELECT state FROM said WHERE id = before_id)),
       coalesce(after, (SELECT state FROM said WHERE id = after_id))
FROM (
    SELECT feature, change, before_id, before, after_id, after
    FROM (
        SELECT mine.feature, theirs.label_id AS before_id, old.state AS before, mine.label_id AS after_id,
               new.state AS after,
               CASE
                   WHEN theirs.label_id IS NOT DISTINCT FROM mine.label_id THEN 'same'
                   WHEN old.state ->> 'label' IS NULL AND new.state ->> 'label' IS NOT NULL THEN 'new'
                   WHEN old.state ->> 'label' IS NOT NULL AND new.state ->> 'label' IS NULL THEN 'lost'
                   WHEN old.state ->> 'label' IS DISTINCT FROM new.state ->> 'label' THEN 'changed'
                   WHEN old.state IS DISTINCT FROM new.state THEN 'rescored'
                   ELSE 'same'
               END AS change
        FROM run_feature AS mine
        JOIN run_feature AS theirs ON theirs.run_id = :against AND theirs.feature = mine.feature AND theirs.selected
        LEFT JOIN LATERAL (
            SELECT state FROM said
            WHERE id = theirs.label_id AND theirs.label_id IS DISTINCT FROM mine.label_id
            OFFSET 0
        ) AS old ON true
        LEFT JOIN LATERAL (
            SELECT state FROM said
            WHERE id = mine.label_id AND theirs.label_id IS DISTINCT FROM mine.label_id
            OFFSET 0
        ) AS new ON true
        WHERE mine.run_id = :run_id AND mine.selected AND mine.feature > :after
    ) AS compared
    WHERE change = ANY(CAST(:changes AS text[]))
    ORDER BY feature
    LIMIT :most
) AS differences
ORDER BY feature;
