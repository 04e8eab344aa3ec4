-- name: try_lock$
SELECT pg_try_advisory_xact_lock(6357078);

-- name: limit_idleness!
SET LOCAL idle_in_transaction_session_timeout = '5s';

-- name: expired
SELECT id, run_id, stage, block, feature_hi - feature_lo, fence, attempt, lost, begun, in_hand
FROM job
WHERE state = 'leased' AND lease_until < clock_timestamp()
ORDER BY lease_until
LIMIT :most
FOR UPDATE SKIP LOCKED;

-- name: note_loss!
INSERT INTO mishap (kind, stage, run_id) VALUES ('lost', :stage, :run_id);

-- name: lose!
UPDATE job
SET state = 'ready', owner = NULL, lease_until = NULL, lost = :lost, run_at = clock_timestamp(),
    last_error = 'the lease ran out: its worker died or hung'
WHERE id = :id AND fence = :fence AND state = 'leased';

-- name: split$
-- Single features in the place of their block: whatever waited for it waits for each of them.
WITH part AS (
    INSERT INTO job (run_id, stage, queue, block, corpus_shard, feature_lo, feature_hi, units, state, priority, vtime, lost)
    SELECT job.run_id, job.stage, job.queue, job.block, 1 + position - job.feature_lo, position, position + 1, 1, 'ready',
           job.priority, job.vtime, 1
    FROM job JOIN run_feature ON run_feature.run_id = job.run_id
      AND run_feature.position >= job.feature_lo AND run_feature.position < job.feature_hi
    WHERE job.id = :id AND (run_feature.selected OR CAST(:everyone AS boolean))
    RETURNING id
), edge AS (
    INSERT INTO job_dependency (waits, for_job)
    SELECT waits, part.id FROM job_dependency CROSS JOIN part WHERE for_job = :id
), waiting AS (
    UPDATE job SET deps_left = deps_left + (SELECT count(*) FROM part)
    FROM job_dependency WHERE job_dependency.for_job = :id AND job.id = job_dependency.waits
)
SELECT count(*) FROM part;

-- name: replace!
WITH waiting AS (
    UPDATE job SET deps_left = deps_left - 1
    FROM job_dependency WHERE job_dependency.for_job = :id AND job.id = job_dependency.waits
)
DELETE FROM job WHERE id = :id;

-- name: set_apart!
-- The document in hand becomes a job of its own, and the shard is read again without it.
WITH part AS (
    INSERT INTO job (run_id, stage, queue, block, corpus_shard, units, state, priority, vtime, lost)
    SELECT run_id, stage, queue, in_hand + 1, corpus_shard, 1, 'ready', priority, vtime, 1 FROM job WHERE id = :id
    RETURNING id
), edge AS (
    INSERT INTO job_dependency (waits, for_job)
    SELECT waits, part.id FROM job_dependency CROSS JOIN part WHERE for_job = :id
), waiting AS (
    UPDATE job SET deps_left = deps_left + 1
    FROM job_dependency WHERE job_dependency.for_job = :id AND job.id = job_dependency.waits
)
UPDATE job
SET state = 'ready', owner = NULL, lease_until = NULL, attempt = 0, run_at = clock_timestamp(),
    last_error = 'lost while it read document ' || in_hand || ', which is now read alone'
WHERE id = :id;

-- name: unfinished_runs
SELECT run.id FROM run
WHERE run.state IN ('queued', 'running')
  AND NOT EXISTS (SELECT 1 FROM job WHERE job.run_id = run.id AND job.state IN ('blocked', 'ready', 'leased'))
LIMIT :most;
