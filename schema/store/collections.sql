-- name: insert!
INSERT INTO collection (id, tenant_id, name) VALUES (:id, :tenant_id, :name);

-- name: insert_dictionaries!
INSERT INTO collection_dictionary (collection_id, dictionary_id, position)
SELECT :id, dictionary_id, position
FROM unnest(CAST(:dictionary_ids AS uuid[])) WITH ORDINALITY AS given (dictionary_id, position);

-- name: get
SELECT id, name, created_at FROM collection WHERE tenant_id = :tenant_id AND id = :id;

-- name: page
SELECT id, name, created_at
FROM collection
WHERE tenant_id = :tenant_id
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;

-- name: delete!
DELETE FROM collection WHERE tenant_id = :tenant_id AND id = :id;

-- name: insert_run!
INSERT INTO collection_run (id, tenant_id, collection_id, spec) VALUES (:id, :tenant_id, :collection_id, :spec);

-- name: join_run!
UPDATE run SET collection_run_id = :collection_run_id, corpus_pass = :corpus_pass WHERE id = :run_id;

-- name: get_run
SELECT id, collection_id, spec, created_at FROM collection_run WHERE tenant_id = :tenant_id AND id = :id;

-- name: page_of_runs
SELECT id, collection_id, spec, created_at
FROM collection_run
WHERE tenant_id = :tenant_id AND collection_id = :collection_id
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;

-- name: companions
-- Those that are over have their exemplars, or will never want them.
SELECT other.id
FROM run JOIN run AS other ON other.corpus_pass = run.corpus_pass
WHERE run.id = :run_id AND other.id <> run.id AND other.state IN ('queued', 'running', 'paused')
ORDER BY other.id;
