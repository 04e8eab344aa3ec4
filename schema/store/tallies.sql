-- name: limit_time!
SET LOCAL statement_timeout = '2s';

-- name: ready
SELECT job.stage, count(*), CAST(extract(epoch FROM clock_timestamp() - min(job.run_at)) AS double precision)
FROM (SELECT run_id, stage, run_at FROM job WHERE state = 'ready' LIMIT :most) AS job JOIN run ON run.id = job.run_id
WHERE run.state IN ('queued', 'running')
GROUP BY job.stage;

-- name: leased
SELECT stage, count(*) FROM job WHERE state = 'leased' GROUP BY stage;

-- name: mishaps
SELECT kind, stage, count(*) FROM mishap GROUP BY kind, stage;

-- name: runs
SELECT state, count(*) FROM run GROUP BY state;

-- name: reserved$
SELECT coalesce(CAST(sum(spending.reserved_nanodollars) AS double precision), 0) / 1e9
FROM run JOIN spending ON spending.run_id = run.id
WHERE run.state IN ('queued', 'running');

-- name: calls
SELECT profile, purpose, status, from_cache, bucket, CAST(sum(calls) AS bigint), CAST(sum(attempts) AS bigint),
       CAST(sum(prompt_tokens) AS bigint), CAST(sum(cached_tokens) AS bigint), CAST(sum(completion_tokens) AS bigint),
       sum(dollars), CAST(sum(unpriced) AS bigint), sum(seconds)
FROM call_tally
GROUP BY profile, purpose, status, from_cache, bucket
ORDER BY profile, purpose, status, from_cache, bucket;

-- name: share_of_features$
SELECT least(1, CAST(:most_bytes AS double precision) / greatest(pg_relation_size('feature'), 1));

-- name: features
-- Always the same pages, so that what changes is what has changed.
SELECT status, count(*) FROM feature TABLESAMPLE SYSTEM (:percent) REPEATABLE (0) GROUP BY status;
