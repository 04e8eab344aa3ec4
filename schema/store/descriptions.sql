-- name: put^
INSERT INTO description (dictionary_id, feature, method, recipe, status, body)
VALUES (:dictionary_id, :feature, :method, :recipe, :status, :body)
ON CONFLICT (dictionary_id, feature, method, recipe)
DO UPDATE SET status = excluded.status, body = excluded.body, created_at = excluded.created_at
RETURNING id;

-- name: find^
SELECT description.id, description.body, description.created_at
FROM description JOIN run ON run.id = :run_id
WHERE description.dictionary_id = :dictionary_id AND description.feature = :feature AND description.recipe = :recipe
  AND (description.status <> ALL(CAST(:retried AS text[])) OR description.created_at >= run.created_at);

-- name: load
SELECT id, body, created_at FROM description WHERE id = ANY(:ids) ORDER BY id;

-- name: of_feature
-- Imported ones are all there is of them: none takes the place of another.
SELECT DISTINCT ON (method, CASE method WHEN 'imported' THEN recipe END) id, body, created_at FROM description
WHERE dictionary_id = :dictionary_id AND feature = :feature
ORDER BY method, CASE method WHEN 'imported' THEN recipe END, created_at DESC;

-- name: imported
SELECT id, body, created_at FROM description
WHERE dictionary_id = :dictionary_id AND feature = ANY(:features) AND method = 'imported'
ORDER BY feature, id;

-- name: put_imported
INSERT INTO description (dictionary_id, feature, method, recipe, status, body)
SELECT :dictionary_id, feature, 'imported', recipe, 'ok', CAST(body AS jsonb)
FROM unnest(CAST(:features AS int[]), CAST(:recipes AS text[]), CAST(:bodies AS text[])) AS new (feature, recipe, body)
ON CONFLICT (dictionary_id, feature, method, recipe) DO NOTHING
RETURNING id;

-- name: put_sentences!
INSERT INTO sentences (description_id, recipe, body) VALUES (:description_id, :recipe, :body)
ON CONFLICT (description_id, recipe) DO UPDATE SET body = excluded.body;

-- name: load_sentences
SELECT body FROM sentences WHERE description_id = ANY(:ids) AND recipe = :recipe;

-- name: latest_sentences
SELECT DISTINCT ON (description_id) body FROM sentences
WHERE description_id = ANY(:ids)
ORDER BY description_id, created_at DESC;
