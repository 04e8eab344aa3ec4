-- name: insert
-- Strides: of two runs with work, one of twice the weight gets twice the jobs.
INSERT INTO job (run_id, stage, queue, block, corpus_shard, feature_lo, feature_hi, units, state, deps_left, priority, vtime)
SELECT run.id, stage, queue, block, shard, feature_lo, feature_hi, units,
       CASE WHEN deps_left = 0 THEN 'ready' ELSE 'blocked' END, deps_left,
       coalesce((run.spec ->> 'priority')::smallint, 0),
       :vtime + (position - 1) / coalesce((run.spec ->> 'weight')::double precision, 1)
FROM run, unnest(
    CAST(:stages AS text[]), CAST(:queues AS text[]), CAST(:blocks AS int[]), CAST(:shards AS int[]),
    CAST(:los AS int[]), CAST(:his AS int[]), CAST(:units AS int[]), CAST(:deps AS int[])
) WITH ORDINALITY AS new (stage, queue, block, shard, feature_lo, feature_hi, units, deps_left, position)
WHERE run.id = :run_id
RETURNING id, stage, block, corpus_shard;

-- name: insert_dependencies!
INSERT INTO job_dependency (waits, for_job)
SELECT * FROM unnest(CAST(:waits AS bigint[]), CAST(:for_jobs AS bigint[]));

-- name: claim^
-- A few of each active run, so that claims at the same moment find one each; a paused run costs nothing, however large.
-- Of the runs of a corpus pass, the first that is active reads a shard, for all of them, once all are ingested; the turn
-- of the next comes when it is done, or no longer active.
WITH ingesting AS MATERIALIZED (
    SELECT DISTINCT run.corpus_pass
    FROM run JOIN job ON job.run_id = run.id
    WHERE run.corpus_pass IS NOT NULL AND run.state IN ('queued', 'running')
      AND job.stage = 'ingest' AND job.state IN ('ready', 'leased')
), front AS (
    SELECT first.id
    FROM run LEFT JOIN LATERAL (
        SELECT other.id FROM run AS other
        WHERE other.corpus_pass = run.corpus_pass AND other.id < run.id AND other.state IN ('queued', 'running')
        ORDER BY other.id DESC
        LIMIT 1
    ) AS predecessor ON run.corpus_pass IS NOT NULL
    CROSS JOIN unnest(CAST(:queues AS text[])) AS queue CROSS JOIN LATERAL (
        SELECT job.id, job.priority, job.vtime FROM job
        WHERE job.run_id = run.id AND job.queue = queue.queue AND job.state = 'ready'
          AND job.stage = ANY(:stages) AND job.run_at <= clock_timestamp()
          AND (run.corpus_pass IS NULL OR job.stage <> 'exemplars'
               OR run.corpus_pass NOT IN (SELECT corpus_pass FROM ingesting)
                  AND NOT EXISTS (
                      SELECT FROM job AS ahead
                      WHERE ahead.run_id = predecessor.id AND ahead.stage = 'exemplars' AND ahead.block = job.block
                        AND ahead.corpus_shard = job.corpus_shard AND ahead.state IN ('blocked', 'ready', 'leased')))
        ORDER BY job.priority DESC, job.vtime, job.id
        LIMIT 8
    ) AS first
    WHERE run.state IN ('queued', 'running')
    ORDER BY first.priority DESC, first.vtime, first.id
    LIMIT 32
), candidate AS (
    SELECT job.id FROM job
    WHERE job.id = ANY(ARRAY(SELECT id FROM front)) AND job.state = 'ready'
    ORDER BY job.priority DESC, job.vtime, job.id
    LIMIT 1
    FOR UPDATE OF job SKIP LOCKED
), claimed AS (
    UPDATE job
    SET state = 'leased', owner = :owner, fence = job.fence + 1, attempt = job.attempt + 1, progress = 0, begun = false,
        in_hand = NULL, lease_until = clock_timestamp() + make_interval(secs => :lease_s), started_at = clock_timestamp()
    FROM candidate
    WHERE job.id = candidate.id
    RETURNING job.id, job.run_id, job.stage, job.block, job.corpus_shard, job.feature_lo, job.feature_hi, job.units,
              job.attempt, job.lost, job.fence
), started AS (
    UPDATE run SET state = 'running', started_at = coalesce(started_at, clock_timestamp())
    FROM claimed WHERE run.id = claimed.run_id AND run.state = 'queued'
)
SELECT id, run_id, stage, block, corpus_shard, feature_lo, feature_hi, units, attempt, lost, fence FROM claimed;

-- name: begin^
UPDATE job SET begun = true WHERE id = :id AND fence = :fence AND state = 'leased' RETURNING id;

-- name: hold^
UPDATE job SET in_hand = :document WHERE id = :id AND fence = :fence AND state = 'leased' RETURNING id;

-- name: heartbeat^
UPDATE job
SET lease_until = clock_timestamp() + make_interval(secs => :lease_s), progress = :progress
WHERE id = :id AND fence = :fence AND state = 'leased'
RETURNING id;

-- name: run_states
SELECT job.id, run.state
FROM unnest(CAST(:ids AS bigint[]), CAST(:fences AS bigint[])) AS held (id, fence)
JOIN job ON job.id = held.id AND job.fence = held.fence AND job.state = 'leased'
JOIN run ON run.id = job.run_id;

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
SET deps_left = job.deps_left - 1, state = CASE WHEN job.deps_left = 1 THEN 'ready' ELSE 'blocked' END,
    run_at = clock_timestamp() -- since when it waits for a worker
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
WITH buried AS (
    UPDATE job
    SET state = 'dead', owner = NULL, lease_until = NULL, last_error = :error, finished_at = clock_timestamp()
    WHERE id = :id AND fence = :fence AND state = 'leased'
    RETURNING id, stage, run_id
), noted AS (
    INSERT INTO mishap (kind, stage, run_id) SELECT 'dead', stage, run_id FROM buried
)
SELECT id FROM buried;

-- name: note_run!
UPDATE run SET note = :note WHERE id = :run_id AND state IN ('queued', 'running') AND note IS DISTINCT FROM :note;

-- name: fail_run!
UPDATE run SET state = 'failed', note = :note, finished_at = clock_timestamp()
WHERE id = :run_id AND state IN ('queued', 'running', 'paused');

-- name: cancel_jobs!
UPDATE job SET state = 'cancelled', owner = NULL, lease_until = NULL, finished_at = clock_timestamp()
WHERE run_id = :run_id AND state IN ('blocked', 'ready', 'leased');

-- name: ready
SELECT queue.queue, min(first.vtime) AS vtime
FROM run CROSS JOIN unnest(CAST(:queues AS text[])) AS queue CROSS JOIN LATERAL (
    SELECT job.vtime FROM job
    WHERE job.run_id = run.id AND job.queue = queue.queue AND job.state = 'ready' AND job.run_at <= clock_timestamp()
    ORDER BY job.priority DESC, job.vtime, job.id
    LIMIT 1
) AS first
WHERE run.state IN ('queued', 'running')
GROUP BY queue.queue;

-- name: set_apart
SELECT block - 1, state FROM job
WHERE run_id = :run_id AND stage = 'exemplars' AND block > 0 AND corpus_shard = :shard
ORDER BY block;

-- name: results
SELECT stage, block, corpus_shard, state, result FROM job
WHERE run_id = :run_id AND stage = :stage AND block = ANY(:blocks)
ORDER BY block, corpus_shard;

-- name: blocks_of
SELECT DISTINCT block FROM job
WHERE run_id = :run_id AND stage = :stage AND feature_lo < :hi AND feature_hi > :lo;
