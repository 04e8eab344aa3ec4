-- name: insert!
INSERT INTO webhook (id, tenant_id, url, events) VALUES (:id, :tenant_id, :url, :events);

-- name: count$
SELECT count(*) FROM webhook WHERE tenant_id = :tenant_id;

-- name: get
SELECT id, url, events, state, last_error,
       (SELECT count(*) FROM delivery WHERE delivery.webhook_id = webhook.id AND delivery.state = 'due'), created_at
FROM webhook
WHERE tenant_id = :tenant_id AND id = :id;

-- name: page
SELECT id, url, events, state, last_error,
       (SELECT count(*) FROM delivery WHERE delivery.webhook_id = webhook.id AND delivery.state = 'due'), created_at
FROM webhook
WHERE tenant_id = :tenant_id
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;

-- name: pause!
UPDATE webhook SET state = 'paused' WHERE tenant_id = :tenant_id AND id = :id;

-- name: resume!
UPDATE webhook SET state = 'active' WHERE tenant_id = :tenant_id AND id = :id AND state <> 'active';

-- name: renew!
-- What waited is due now, and tried as often as if it were new.
UPDATE delivery SET attempts = 0, due_at = clock_timestamp() WHERE webhook_id = :id AND state = 'due';

-- name: delete!
DELETE FROM webhook WHERE tenant_id = :tenant_id AND id = :id;
