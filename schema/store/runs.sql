-- name: insert
INSERT INTO run (id, tenant_id, dictionary_id, spec, n_features, llms)
VALUES (:id, :tenant_id, :dictionary_id, :spec, :n_features, :llms)
RETURNING id, dictionary_id, spec, state, note, created_at, started_at, finished_at, n_features;

-- name: get
SELECT id, dictionary_id, spec, state, note, created_at, started_at, finished_at, n_features
FROM run
WHERE tenant_id = :tenant_id AND id = :id;

-- name: page
SELECT id, dictionary_id, spec, state, note, created_at, started_at, finished_at, n_features
FROM run
WHERE tenant_id = :tenant_id
  AND (CAST(:dictionary_id AS uuid) IS NULL OR dictionary_id = :dictionary_id)
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;

-- name: of_collection_runs
SELECT collection_run.id, run.id, run.dictionary_id, run.spec, run.state, run.note, run.created_at, run.started_at,
       run.finished_at, run.n_features
FROM collection_run JOIN run ON run.collection_run_id = collection_run.id
LEFT JOIN collection_dictionary ON collection_dictionary.collection_id = collection_run.collection_id
  AND collection_dictionary.dictionary_id = run.dictionary_id
WHERE collection_run.id = ANY(CAST(:ids AS uuid[]))
ORDER BY collection_run.id, collection_dictionary.position, run.id;

-- name: cancel
UPDATE run SET state = 'cancelled', note = NULL, finished_at = clock_timestamp()
WHERE id = :id AND state IN ('queued', 'running', 'paused')
RETURNING id, dictionary_id, spec, state, note, created_at, started_at, finished_at, n_features;

-- name: pause
UPDATE run SET state = 'paused', note = NULL
WHERE id = :id AND state IN ('queued', 'running')
RETURNING id, dictionary_id, spec, state, note, created_at, started_at, finished_at, n_features;

-- name: resume
UPDATE run SET state = CASE WHEN started_at IS NULL THEN 'queued' ELSE 'running' END, note = NULL
WHERE id = :id AND state = 'paused'
RETURNING id, dictionary_id, spec, state, note, created_at, started_at, finished_at, n_features;

-- name: halt!
UPDATE run SET state = 'paused', note = :note WHERE id = :id AND state IN ('queued', 'running');

-- name: state$
SELECT state FROM run WHERE id = :id;

-- name: set_n_features!
UPDATE run SET n_features = :n_features WHERE id = :id;

-- name: put_ingredients!
UPDATE run SET ingredients = :ingredients WHERE id = :id AND ingredients IS NULL;

-- name: progress
-- What ended is tallied; what is under way is as much as there are workers.
SELECT run_id, stage, CAST(sum(jobs) AS bigint), CAST(sum(jobs_done) AS bigint), CAST(sum(units) AS bigint),
       CAST(sum(units_done) AS bigint), CAST(sum(dead) AS bigint), sum(seconds), min(started_at), max(finished_at)
FROM (
    SELECT run_id, stage, jobs, jobs_done, units, units_done, dead, seconds, first_started_at, last_finished_at
    FROM stage_tally
    WHERE run_id = ANY(CAST(:run_ids AS uuid[]))
    UNION ALL
    SELECT run_id, stage, 0, 0, 0, least(progress, units), 0, 0, started_at, NULL
    FROM job
    WHERE state = 'leased' AND run_id = ANY(CAST(:run_ids AS uuid[]))
) AS part (run_id, stage, jobs, jobs_done, units, units_done, dead, seconds, started_at, finished_at)
GROUP BY run_id, stage
HAVING sum(jobs) > 0;

-- name: counts
WITH given AS (
    SELECT method, status, CAST(sum(n) AS bigint) AS n FROM label_tally WHERE run_id = :run_id GROUP BY method, status
), missing AS (
    SELECT n_features - (SELECT coalesce(sum(n), 0) FROM given) AS n FROM run WHERE id = :run_id
)
SELECT method, status, n FROM given
UNION ALL
SELECT NULL, 'unlabelled', CAST(n AS bigint) FROM missing WHERE n > 0
ORDER BY n DESC, method NULLS LAST, status;

-- name: dead
SELECT stage,
       ARRAY(SELECT feature FROM run_feature
             WHERE run_feature.run_id = job.run_id AND position >= feature_lo AND position < feature_hi
               AND stage <> 'report'
             ORDER BY position),
       CASE WHEN stage = 'exemplars' AND block > 0 THEN block - 1 END, coalesce(last_error, '')
FROM job
WHERE run_id = :run_id AND state = 'dead'
ORDER BY id
LIMIT 100;

-- name: ready_queues
SELECT queue
FROM unnest(CAST(:queues AS text[])) AS queue
WHERE EXISTS (SELECT FROM job WHERE job.run_id = :run_id AND job.queue = queue.queue AND job.state = 'ready')
ORDER BY queue;
