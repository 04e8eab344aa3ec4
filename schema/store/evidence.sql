-- name: put_provenance!
INSERT INTO provenance (recipe, document) VALUES (:recipe, :document) ON CONFLICT DO NOTHING;

-- name: put!
INSERT INTO evidence (dictionary_id, feature, kind, recipe, payload)
SELECT :dictionary_id, feature, :kind, :recipe, payload
FROM unnest(CAST(:features AS int[]), CAST(:payloads AS bytea[])) AS new (feature, payload)
ON CONFLICT (dictionary_id, feature, kind, recipe) DO UPDATE SET payload = excluded.payload;

-- name: load
SELECT feature, payload FROM evidence
WHERE dictionary_id = :dictionary_id AND kind = :kind AND recipe = :recipe AND feature = ANY(:features);

-- name: present
SELECT feature FROM evidence
WHERE dictionary_id = :dictionary_id AND kind = :kind AND recipe = :recipe AND feature = ANY(:features);

-- name: latest
SELECT DISTINCT ON (evidence.kind) evidence.kind, evidence.payload, evidence.recipe, provenance.document
FROM evidence JOIN provenance ON provenance.recipe = evidence.recipe
WHERE evidence.dictionary_id = :dictionary_id AND evidence.feature = :feature
ORDER BY evidence.kind, evidence.created_at DESC;
