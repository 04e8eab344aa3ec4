-- name: put_provenance$
INSERT INTO provenance (document) VALUES (:document) RETURNING id;

-- name: put!
INSERT INTO evidence (dictionary_id, feature, kind, recipe, payload, provenance_id, reading_id)
SELECT :dictionary_id, feature, :kind, :recipe, payload, :provenance_id, CAST(:reading_id AS integer)
FROM unnest(CAST(:features AS int[]), CAST(:payloads AS bytea[])) AS new (feature, payload)
ON CONFLICT (dictionary_id, feature, kind, recipe)
DO UPDATE SET payload = excluded.payload, provenance_id = excluded.provenance_id, reading_id = excluded.reading_id;

-- name: load
SELECT feature, payload, reading_id FROM evidence
WHERE dictionary_id = :dictionary_id AND kind = :kind AND recipe = :recipe AND feature = ANY(:features);

-- name: present
SELECT feature FROM evidence
WHERE dictionary_id = :dictionary_id AND kind = :kind AND recipe = :recipe AND feature = ANY(:features);

-- name: latest
SELECT DISTINCT ON (evidence.kind)
    evidence.kind, evidence.payload, evidence.reading_id, evidence.recipe, provenance.document
FROM evidence JOIN provenance ON provenance.id = evidence.provenance_id
WHERE evidence.dictionary_id = :dictionary_id AND evidence.feature = :feature
ORDER BY evidence.kind, evidence.created_at DESC;

-- name: latest_of
SELECT DISTINCT ON (feature, kind) feature, kind, payload, reading_id FROM evidence
WHERE dictionary_id = :dictionary_id AND feature >= :lo AND feature < :hi AND kind = ANY(CAST(:kinds AS text[]))
ORDER BY feature, kind, created_at DESC;

-- name: latest_among
SELECT DISTINCT ON (feature, kind) feature, kind, payload, reading_id FROM evidence
WHERE dictionary_id = :dictionary_id AND feature = ANY(:features) AND kind = ANY(CAST(:kinds AS text[]))
ORDER BY feature, kind, created_at DESC;
