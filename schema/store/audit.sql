-- name: put!
INSERT INTO audit (tenant_id, key_id, method, path, status) VALUES (:tenant_id, :key_id, :method, :path, :status);

-- name: page
SELECT audit.id, audit.at, audit.key_id, api_key.name, audit.method, audit.path, audit.status
FROM audit JOIN api_key ON api_key.id = audit.key_id
WHERE audit.tenant_id = :tenant_id
  AND (CAST(:key_id AS uuid) IS NULL OR audit.key_id = :key_id)
  AND (CAST(:before AS bigint) IS NULL OR audit.id < :before)
ORDER BY audit.id DESC
LIMIT :most;
