-- name: insert
INSERT INTO job (run_id, stage, block, corpus_shard, feature_lo, feature_hi, units, state, deps_left, vtime)
SELECT :run_id, stage, block, shard, feature_lo, feature_hi, units,
       CASE WHEN deps_left = 0 THEN 'ready' ELSE 'blocked' END, deps_left, :vtime + position
FROM unnest(
    CAST(:stages AS text[]), CAST(:blocks AS int[]), CAST(:shards AS int[]), CAST(:los AS int[]), CAST(:his AS int[]),
    CAST(:units AS int[]), CAST(:deps AS int[])
) WITH ORDINALITY AS new (stage, block, shard, feature_lo, feature_hi, units, deps_left, position)
RETURNING id, stage, block, corpus_shard;

-- name: insert_dependencies!
INSERT INTO job_dependency (waits, for_job)
SELECT * FROM unnest(CAST(:waits AS bigint[]), CAST(:for_jobs AS bigint[]));

-- name: claim^
WITH candidate AS (
    SELECT job.id
    FROM job JOIN run ON run.id = job.run_id
    WHERE job.state = 'ready' AND job.stage = ANY(:stages) AND job.run_at <= clock_timestamp()
      AND run.state IN ('queued', 'running')
    ORDER BY job.priority DESC, job.vtime, job.id
    LIMIT 1
    FOR UPDATE OF job SKIP LOCKED
)
UPDATE job
SET state = 'leased', owner = :owner, fence = job.fence + 1, attempt = job.attempt + 1, progress = 0,
    lease_until = clock_timestamp() + make_interval(secs => :lease_s), started_at = clock_timestamp()
FROM candidate
WHERE job.id = candidate.id
RETURNING job.id, job.run_id, job.stage, job.block, job.corpus_shard, job.feature_lo, job.feature_hi, job.units,
          job.attempt, job.lost, job.fence;

-- name: start_run!
UPDATE run SET state = 'running', started_at = coalesce(started_at, clock_timestamp())
WHERE id = :run_id AND state = 'queued';

-- name: heartbeat^
UPDATE job
SET lease_until = clock_timestamp() + make_interval(secs => :lease_s), progress = :progress
FROM run
WHERE job.id = :id AND job.fence = :fence AND job.state = 'leased' AND run.id = job.run_id
RETURNING run.state;

-- name: finish^
UPDATE job
SET state = 'done', finished_at = clock_timestamp(), progress = units, owner = NULL, lease_until = NULL, last_error = NULL,
    seconds = extract(epoch FROM clock_timestamp() - started_at), result = :result
WHERE id = :id AND fence = :fence AND state = 'leased'
RETURNING id;

-- name: release
WITH waiting AS (
    SELECT job.id FROM job JOIN job_dependency ON job_dependency.waits = job.id
    WHERE job_dependency.for_job = :id AND job.state = 'blocked'
    ORDER BY job.id
    FOR UPDATE OF job
)
UPDATE job
SET deps_left = job.deps_left - 1, state = CASE WHEN job.deps_left = 1 THEN 'ready' ELSE 'blocked' END
FROM waiting
WHERE job.id = waiting.id
RETURNING job.stage, job.state;

-- name: finish_run^
UPDATE run SET state = 'done', finished_at = clock_timestamp(), note = NULL
WHERE id = :run_id AND state IN ('queued', 'running')
  AND NOT EXISTS (SELECT 1 FROM job WHERE job.run_id = :run_id AND job.state IN ('blocked', 'ready', 'leased'))
RETURNING id;

-- name: give_back^
UPDATE job
SET state = 'ready', owner = NULL, lease_until = NULL, attempt = attempt - 1, last_error = :error,
    run_at = clock_timestamp() + make_interval(secs => :delay_s)
WHERE id = :id AND fence = :fence AND state = 'leased'
RETURNING id;

-- name: retry^
UPDATE job
SET state = 'ready', owner = NULL, lease_until = NULL, last_error = :error,
    run_at = clock_timestamp() + make_interval(secs => :delay_s)
WHERE id = :id AND fence = :fence AND state = 'leased'
RETURNING id;

-- name: bury^
UPDATE job
SET state = 'dead', owner = NULL, lease_until = NULL, last_error = :error, finished_at = clock_timestamp()
WHERE id = :id AND fence = :fence AND state = 'leased'
RETURNING id;

-- name: expired
SELECT id, run_id, stage, fence, lost
FROM job
WHERE state = 'leased' AND lease_until < clock_timestamp()
ORDER BY lease_until
LIMIT :most
FOR UPDATE SKIP LOCKED;

-- name: lose!
UPDATE job
SET state = 'ready', owner = NULL, lease_until = NULL, lost = lost + 1, run_at = clock_timestamp(),
    last_error = 'the lease ran out: its worker died or hung'
WHERE id = :id AND fence = :fence AND state = 'leased';

-- name: note_run!
UPDATE run SET note = :note WHERE id = :run_id AND state IN ('queued', 'running') AND note IS DISTINCT FROM :note;

-- name: fail_run!
UPDATE run SET state = 'failed', note = :note, finished_at = clock_timestamp()
WHERE id = :run_id AND state IN ('queued', 'running', 'paused');

-- name: cancel_jobs!
UPDATE job SET state = 'cancelled', owner = NULL, lease_until = NULL, finished_at = clock_timestamp()
WHERE run_id = :run_id AND state IN ('blocked', 'ready', 'leased');

-- name: ready_counts
SELECT stage, count(*) AS n FROM job JOIN run ON run.id = job.run_id
WHERE job.state = 'ready' AND job.run_at <= clock_timestamp() AND run.state IN ('queued', 'running')
GROUP BY stage;

-- name: unfinished_runs
SELECT run.id FROM run
WHERE run.state IN ('queued', 'running')
  AND NOT EXISTS (SELECT 1 FROM job WHERE job.run_id = run.id AND job.state IN ('blocked', 'ready', 'leased'))
LIMIT :most;

-- name: smallest_vtime$
SELECT coalesce(min(vtime), 0) FROM job WHERE state = 'ready';

-- name: results
SELECT stage, block, corpus_shard, state, result FROM job
WHERE run_id = :run_id AND stage = :stage AND block = ANY(:blocks)
ORDER BY block, corpus_shard;

-- name: blocks_of
SELECT DISTINCT block FROM job
WHERE run_id = :run_id AND stage = :stage AND feature_lo < :hi AND feature_hi > :lo;

-- name: try_sweep_lock$
SELECT pg_try_advisory_xact_lock(6357078);
