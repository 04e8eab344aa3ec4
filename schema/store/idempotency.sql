-- name: claim^
INSERT INTO idempotency (tenant_id, key, body_sha256, resource_id)
VALUES (:tenant_id, :key, :body_sha256, :resource_id)
ON CONFLICT (tenant_id, key) DO NOTHING
RETURNING resource_id;

-- name: get^
SELECT body_sha256, resource_id FROM idempotency WHERE tenant_id = :tenant_id AND key = :key;
