-- name: get$
SELECT sha256 FROM artifact WHERE recipe = :recipe;

-- name: put!
INSERT INTO artifact (recipe, sha256, n_bytes) VALUES (:recipe, :sha256, :n_bytes)
ON CONFLICT (recipe) DO UPDATE SET sha256 = excluded.sha256, n_bytes = excluded.n_bytes;
