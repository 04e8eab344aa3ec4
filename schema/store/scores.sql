-- name: put!
INSERT INTO score (dictionary_id, feature, kind, description_id, recipe, status, body)
VALUES (:dictionary_id, :feature, :kind, :description_id, :recipe, :status, :body)
ON CONFLICT (dictionary_id, feature, kind, description_id, recipe)
DO UPDATE SET status = excluded.status, body = excluded.body;

-- name: load
SELECT body FROM score
WHERE dictionary_id = :dictionary_id AND feature = ANY(:features) AND recipe = :recipe
ORDER BY feature, kind, description_id;

-- name: outlines
SELECT CAST(body - CAST('{details,reason}' AS text[])
    || jsonb_build_object('details', CASE WHEN body -> 'details' ? 'revived'
        THEN jsonb_build_object('revived', body #> '{details,revived}') ELSE '{}' END) AS text)
FROM score
WHERE dictionary_id = :dictionary_id AND feature = ANY(:features) AND recipe = :recipe
ORDER BY feature, kind, description_id;

-- name: of_feature
SELECT DISTINCT ON (kind, description_id) body FROM score
WHERE dictionary_id = :dictionary_id AND feature = :feature
ORDER BY kind, description_id, created_at DESC;
