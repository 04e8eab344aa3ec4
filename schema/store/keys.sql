-- name: insert^
INSERT INTO api_key (id, tenant_id, name, scope, secret_sha256, expires_at)
VALUES (:id, :tenant_id, :name, :scope, :secret_sha256, :expires_at)
RETURNING id, name, scope, created_at, expires_at, revoked_at, used_at;

-- name: get^
SELECT id, name, scope, created_at, expires_at, revoked_at, used_at
FROM api_key
WHERE tenant_id = :tenant_id AND id = :id;

-- name: find^
SELECT id, name, scope, created_at, expires_at, revoked_at, used_at, tenant_id, secret_sha256,
       (used_at IS NULL OR used_at < clock_timestamp() - interval '1 minute')
       AND current_setting('transaction_read_only') = 'off'
FROM api_key
WHERE id = :id;

-- name: touch!
UPDATE api_key SET used_at = clock_timestamp() WHERE id = :id;

-- name: page
SELECT id, name, scope, created_at, expires_at, revoked_at, used_at
FROM api_key
WHERE tenant_id = :tenant_id
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;

-- name: revoke!
UPDATE api_key SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE tenant_id = :tenant_id AND id = :id;

-- name: lock_tenants!
LOCK TABLE tenant IN SHARE ROW EXCLUSIVE MODE;

-- name: tenant$
SELECT id FROM tenant WHERE name = :name;

-- name: insert_tenant$
INSERT INTO tenant (id, name) SELECT max(id) + 1, :name FROM tenant RETURNING id;
