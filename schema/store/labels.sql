-- name: lock_feature^
SELECT label.id, label.author, label.recipe
FROM feature LEFT JOIN label ON label.id = feature.label_id
WHERE feature.dictionary_id = :dictionary_id AND feature.index = :feature
FOR UPDATE OF feature;

-- name: upsert$
WITH written AS (
    INSERT INTO label (dictionary_id, feature, run_id, author, recipe, body)
    VALUES (:dictionary_id, :feature, :run_id, :author, :recipe, :body)
    ON CONFLICT (dictionary_id, feature, author, recipe) DO UPDATE
    SET run_id = excluded.run_id, body = excluded.body, created_at = excluded.created_at
    RETURNING id
), given AS (
    UPDATE run_feature SET label_id = written.id FROM written WHERE run_id = :run_id AND run_feature.feature = :feature
)
SELECT id FROM written;

-- name: tally!
-- In order, as others count the same at the same time.
INSERT INTO label_tally AS tally (run_id, method, status, slot, n)
SELECT run_feature.run_id, label.body ->> 'method', label.body ->> 'status', mod(pg_backend_pid(), 8), count(*)
FROM run_feature JOIN label ON label.id = run_feature.label_id
WHERE run_feature.run_id = ANY(CAST(:run_ids AS uuid[])) AND run_feature.feature = ANY(CAST(:features AS integer[]))
  AND run_feature.selected
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (run_id, method, status, slot) DO UPDATE SET n = tally.n + excluded.n;

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

-- name: clear!
UPDATE feature
SET label_id = DEFAULT, status = DEFAULT, label = DEFAULT, method = DEFAULT,
    input_success = DEFAULT, input_value = DEFAULT, input_lift = DEFAULT,
    output_success = DEFAULT, output_value = DEFAULT, output_lift = DEFAULT
WHERE dictionary_id = :dictionary_id AND index = :feature;

-- name: current^
SELECT label.id, label.feature, label.run_id, label.author, label.created_at, label.body
FROM feature JOIN label ON label.id = feature.label_id
WHERE feature.dictionary_id = :dictionary_id AND feature.index = :feature;

-- name: sizes
SELECT id, CAST(spec ->> 'n_features' AS integer) FROM dictionary
WHERE tenant_id = :tenant_id AND id = ANY(CAST(:dictionaries AS uuid[]));

-- name: brief$
-- Ten thousand objects would keep the interpreter from everybody else, so what is sent is written here. `nth` is the place
-- of a feature's dictionary among those of the question. Features are looked up in the order of their index, neighbours
-- together; and the table of labels, which is wide, only where a person may have written one: that is `imported`.
SELECT CAST(json_agg(found.item ORDER BY wanted.place) AS text)
FROM (
    SELECT nth, index, place
    FROM unnest(CAST(:nth AS integer[]), CAST(:features AS integer[])) WITH ORDINALITY AS asked (nth, index, place)
    ORDER BY nth, index
) AS wanted
LEFT JOIN LATERAL (
    SELECT row_to_json(brief) AS item
    FROM (
        SELECT feature.label_id AS id, feature.label AS text, feature.status, feature.method,
               CASE WHEN feature.method = 'imported' THEN (SELECT author FROM label WHERE label.id = feature.label_id)
                    ELSE :machine END AS author,
               feature.input_value, feature.input_lift, feature.output_value, feature.output_lift
        FROM feature
        WHERE feature.dictionary_id = (CAST(:dictionaries AS uuid[]))[wanted.nth + 1] AND feature.index = wanted.index
          AND feature.label_id IS NOT NULL
    ) AS brief
) AS found ON true;

-- name: history
SELECT id, feature, run_id, author, created_at, body
FROM label
WHERE dictionary_id = :dictionary_id AND feature = :feature
ORDER BY created_at DESC, id DESC;

-- name: newest_by^
SELECT id, feature, run_id, author, created_at, body
FROM label
WHERE dictionary_id = :dictionary_id AND feature = :feature AND author = :author
ORDER BY created_at DESC, id DESC
LIMIT 1;

-- name: page
SELECT label.id, label.feature, label.run_id, label.author, label.created_at, label.body
FROM feature JOIN label ON label.id = feature.label_id
WHERE feature.dictionary_id = :dictionary_id AND feature.index > :after
  AND (CAST(:run_id AS uuid) IS NULL OR EXISTS (
        SELECT 1 FROM run_feature
        WHERE run_feature.run_id = :run_id AND run_feature.feature = feature.index AND run_feature.selected))
ORDER BY feature.index
LIMIT :most;

-- name: made_by
SELECT DISTINCT ON (label.feature) label.id, label.feature, label.run_id, label.author, label.created_at,
       label.body - 'choice' #- '{output,details}' #- '{output_llm,details}'
           #- '{input,details,activating}' #- '{input,details,neutral}'
FROM run JOIN label ON label.dictionary_id = run.dictionary_id
WHERE run.id = :run_id AND label.feature = ANY(:features) AND label.author = :author
  AND (label.run_id = run.id OR label.body #>> '{input,recipe}' = :recipe)
ORDER BY label.feature, label.run_id IS NOT DISTINCT FROM run.id DESC, label.created_at DESC, label.id DESC;

-- name: of_run
SELECT label.id, label.feature, label.run_id, label.author, label.created_at, label.body
FROM run_feature JOIN label ON label.id = run_feature.label_id
WHERE run_feature.run_id = :run_id AND run_feature.selected
ORDER BY label.feature;
