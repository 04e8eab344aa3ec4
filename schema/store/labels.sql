-- name: lock_feature^
SELECT label.author
FROM feature LEFT JOIN label ON label.id = feature.label_id
WHERE feature.dictionary_id = :dictionary_id AND feature.index = :feature
FOR UPDATE OF feature;

-- name: upsert$
INSERT INTO label (dictionary_id, feature, run_id, author, recipe, body)
VALUES (:dictionary_id, :feature, :run_id, :author, :recipe, :body)
ON CONFLICT (dictionary_id, feature, author, recipe) DO UPDATE
SET run_id = excluded.run_id, body = excluded.body, created_at = excluded.created_at
RETURNING id;

-- name: summarise!
WITH queued AS (
    INSERT INTO search_queue (dictionary_id, what, features)
    SELECT :dictionary_id, 'labels', ARRAY[CAST(:feature AS integer)] WHERE CAST(:label AS text) IS NOT NULL
)
UPDATE feature
SET label_id = :label_id, status = :status, label = :label, method = :method,
    input_success = :input_success, input_value = :input_value, input_lift = :input_lift,
    output_success = :output_success, output_value = :output_value, output_lift = :output_lift
WHERE dictionary_id = :dictionary_id AND index = :feature;

-- name: current^
SELECT label.feature, label.run_id, label.author, label.created_at, label.body
FROM feature JOIN label ON label.id = feature.label_id
WHERE feature.dictionary_id = :dictionary_id AND feature.index = :feature;

-- name: history
SELECT feature, run_id, author, created_at, body
FROM label
WHERE dictionary_id = :dictionary_id AND feature = :feature
ORDER BY created_at DESC, id DESC;

-- name: page
SELECT label.feature, label.run_id, label.author, label.created_at, label.body
FROM feature JOIN label ON label.id = feature.label_id
WHERE feature.dictionary_id = :dictionary_id AND feature.index > :after
  AND (CAST(:run_id AS uuid) IS NULL OR EXISTS (
        SELECT 1 FROM run_feature
        WHERE run_feature.run_id = :run_id AND run_feature.feature = feature.index AND run_feature.selected))
ORDER BY feature.index
LIMIT :most;

-- name: made_by
SELECT DISTINCT ON (label.feature) label.feature, label.run_id, label.author, label.created_at,
       label.body - 'choice' #- '{output,details}' #- '{output_llm,details}'
           #- '{input,details,activating}' #- '{input,details,neutral}'
FROM run JOIN label ON label.dictionary_id = run.dictionary_id
WHERE run.id = :run_id AND label.feature = ANY(:features) AND label.author = :author
  AND (label.run_id = run.id OR label.body #>> '{input,recipe}' = :recipe)
ORDER BY label.feature, label.run_id IS NOT DISTINCT FROM run.id DESC, label.created_at DESC, label.id DESC;

-- name: of_run
SELECT found.feature, found.run_id, found.author, found.created_at, found.body
FROM run JOIN run_feature ON run_feature.run_id = run.id AND run_feature.selected
CROSS JOIN LATERAL (
    SELECT label.feature, label.run_id, label.author, label.created_at, label.body
    FROM label
    WHERE label.dictionary_id = run.dictionary_id AND label.feature = run_feature.feature
    ORDER BY label.run_id IS NOT DISTINCT FROM run.id DESC, label.created_at DESC, label.id DESC
    LIMIT 1
) AS found
WHERE run.id = :run_id
ORDER BY found.feature;
