-- name: release_all!
UPDATE job
SET state = 'ready', owner = NULL, lease_until = NULL, attempt = attempt - 1, run_at = clock_timestamp()
WHERE state = 'leased';
