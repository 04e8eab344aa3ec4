-- name: insert
INSERT INTO corpus (id, tenant_id, name, sha256, n_bytes)
VALUES (:id, :tenant_id, :name, :sha256, :n_bytes)
RETURNING id, name, sha256, n_bytes, created_at;

-- name: get^
SELECT id, name, sha256, n_bytes, created_at
FROM corpus
WHERE tenant_id = :tenant_id AND id = :id;

-- name: same^
SELECT id, name, sha256, n_bytes, created_at
FROM corpus
WHERE tenant_id = :tenant_id AND name = :name AND sha256 = :sha256
ORDER BY created_at
LIMIT 1;

-- name: page
SELECT id, name, sha256, n_bytes, created_at
FROM corpus
WHERE tenant_id = :tenant_id
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;
