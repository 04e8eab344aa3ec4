-- name: stored_bytes$
-- What was uploaded, each row by itself: two dictionaries of the same weights count twice.
SELECT (SELECT coalesce(sum(n_bytes), 0) FROM corpus WHERE tenant_id = :tenant_id)
     + (SELECT coalesce(sum(n_bytes), 0) FROM dictionary WHERE tenant_id = :tenant_id);

-- name: hold_tenant$
-- Whoever asks at the same time waits until the caller's runs are there to be counted.
SELECT id FROM tenant WHERE id = :tenant_id FOR NO KEY UPDATE;

-- name: unfinished_runs$
SELECT count(*) FROM run WHERE tenant_id = :tenant_id AND state IN ('queued', 'running', 'paused');
