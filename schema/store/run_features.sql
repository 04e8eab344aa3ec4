-- name: brief^
SELECT run.id, run.tenant_id, run.spec, dictionary.id, dictionary.spec, dictionary.state, dictionary.weights_sha256,
       dictionary.digest, dictionary.error, dictionary.created_at, run.llms
FROM run JOIN dictionary ON dictionary.id = run.dictionary_id
WHERE run.id = :run_id;

-- name: put!
INSERT INTO run_feature (run_id, position, feature, selected, pooled)
SELECT :run_id, position - 1, feature, selected, pooled
FROM unnest(CAST(:features AS int[]), CAST(:selected AS bool[]), CAST(:pooled AS bool[]))
    WITH ORDINALITY AS new (feature, selected, pooled, position)
ON CONFLICT DO NOTHING;

-- name: set_n_features!
UPDATE run SET n_features = :n_features WHERE id = :run_id;

-- name: block
SELECT position, feature, selected, pooled FROM run_feature
WHERE run_id = :run_id AND position >= :lo AND position < :hi
ORDER BY position;

-- name: pool
SELECT position, feature, selected, pooled FROM run_feature
WHERE run_id = :run_id AND pooled
ORDER BY position;

-- name: selected
SELECT feature FROM run_feature WHERE run_id = :run_id AND selected ORDER BY position LIMIT :most;
