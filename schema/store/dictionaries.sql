-- name: insert
INSERT INTO dictionary (id, tenant_id, spec, state, digest)
VALUES (:id, :tenant_id, :spec, :state, :digest)
RETURNING id, spec, state, weights_sha256, digest, error, created_at;

-- name: get
SELECT id, spec, state, weights_sha256, digest, error, created_at
FROM dictionary
WHERE tenant_id = :tenant_id AND id = :id;

-- name: lock
SELECT id, spec, state, weights_sha256, digest, error, created_at
FROM dictionary
WHERE tenant_id = :tenant_id AND id = :id
FOR UPDATE;

-- name: names
SELECT id, spec ->> 'name' FROM dictionary WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS uuid[]));

-- name: hold
-- So that none is deleted before the caller's transaction ends.
SELECT id, spec, state, weights_sha256, digest, error, created_at
FROM dictionary
WHERE tenant_id = :tenant_id AND id = ANY(CAST(:ids AS uuid[]))
ORDER BY id
FOR KEY SHARE;

-- name: of_collections
SELECT collection_dictionary.collection_id, id, spec, state, weights_sha256, digest, error, created_at
FROM collection_dictionary JOIN dictionary ON dictionary.id = collection_dictionary.dictionary_id
WHERE collection_dictionary.collection_id = ANY(CAST(:collection_ids AS uuid[]))
ORDER BY collection_dictionary.collection_id, collection_dictionary.position;

-- name: page
SELECT id, spec, state, weights_sha256, digest, error, created_at
FROM dictionary
WHERE tenant_id = :tenant_id
  AND (CAST(:collection_id AS uuid) IS NULL
       OR id IN (SELECT dictionary_id FROM collection_dictionary WHERE collection_id = :collection_id))
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;

-- name: set_weights
UPDATE dictionary
SET state = 'ready', weights_sha256 = :sha256, digest = :digest, error = NULL, n_bytes = :n_bytes
WHERE id = :id
RETURNING id, spec, state, weights_sha256, digest, error, created_at;

-- name: set_size!
UPDATE dictionary SET n_bytes = :n_bytes WHERE id = :id;

-- name: fail
UPDATE dictionary SET state = 'failed', error = :error
WHERE id = :id
RETURNING id, spec, state, weights_sha256, digest, error, created_at;

-- name: unfinished_run$
SELECT id FROM run
WHERE dictionary_id = :id AND state IN ('queued', 'running', 'paused')
ORDER BY created_at
LIMIT 1;

-- Children go first, in the order of who refers to whom: a cascade would look them up one row at a time.

-- name: delete_dependencies!
DELETE FROM job_dependency
USING job JOIN run ON run.id = job.run_id
WHERE run.dictionary_id = :id AND job_dependency.for_job = job.id;

-- name: delete_jobs!
DELETE FROM job USING run WHERE run.dictionary_id = :id AND job.run_id = run.id;

-- name: delete_scores!
DELETE FROM score WHERE dictionary_id = :id AND feature >= :lo AND feature < :hi;

-- name: delete_labels!
DELETE FROM label WHERE dictionary_id = :id AND feature >= :lo AND feature < :hi;

-- name: delete_descriptions!
DELETE FROM description WHERE dictionary_id = :id AND feature >= :lo AND feature < :hi;

-- name: delete_evidence!
DELETE FROM evidence WHERE dictionary_id = :id AND feature >= :lo AND feature < :hi;

-- name: delete_tokens!
DELETE FROM feature_token WHERE dictionary_id = :id AND feature >= :lo AND feature < :hi;

-- name: delete_features!
DELETE FROM feature WHERE dictionary_id = :id AND index >= :lo AND index < :hi;

-- name: delete_contexts!
-- Those that came with it when it was imported: no other dictionary refers to them.
DELETE FROM context USING reading
WHERE starts_with(reading.recipe, :prefix) AND context.reading_id = reading.id;

-- name: delete_readings!
DELETE FROM reading WHERE starts_with(recipe, :prefix);

-- name: delete!
DELETE FROM dictionary WHERE tenant_id = :tenant_id AND id = :id;

-- name: health^
-- As the newest run that measured it found it.
SELECT run.id, job.finished_at, job.result -> 'health'
FROM run JOIN job ON job.run_id = run.id AND job.stage = 'ingest' AND job.state = 'done'
WHERE run.dictionary_id = :dictionary_id AND job.result -> 'health' IS NOT NULL
ORDER BY run.created_at DESC
LIMIT 1;
