-- name: claim^
INSERT INTO idempotency (tenant_id, key, body_sha256, resource_id)
VALUES (:tenant_id, :key, :body_sha256, :resource_id)
ON CONFLICT (tenant_id, key) DO NOTHING
RETURNING resource_id;

-- name: get^
SELECT body_sha256, resource_id FROM idempotency WHERE tenant_id = :tenant_id AND key = :key;

-- name: delete_old!
DELETE FROM idempotency
WHERE (tenant_id, key) IN (
    SELECT tenant_id, key FROM idempotency
    WHERE created_at < clock_timestamp() - make_interval(days => :kept_days) ORDER BY created_at LIMIT :most
);
