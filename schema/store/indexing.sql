-- name: try_lock$
SELECT pg_try_advisory_xact_lock(6357091);

-- name: add!
INSERT INTO search_queue (dictionary_id, what, features)
SELECT :dictionary_id, :what, array_agg(feature)
FROM unnest(CAST(:features AS integer[])) WITH ORDINALITY AS new (feature, place)
GROUP BY (place - 1) / 256
ORDER BY (place - 1) / 256;

-- name: add_all_labels!
INSERT INTO search_queue (dictionary_id, what, features)
SELECT dictionary_id, 'labels', array_agg(index)
FROM feature
WHERE label IS NOT NULL
GROUP BY dictionary_id, index / 256;

-- name: take
-- The oldest rows with as many features as are wanted; the first one in any case.
SELECT number, dictionary_id, features
FROM (
    SELECT number, dictionary_id, features, sum(cardinality(features)) OVER (ORDER BY number) AS so_far
    FROM (SELECT number, dictionary_id, features FROM search_queue WHERE what = :what ORDER BY number LIMIT :most) AS oldest
) AS counted
WHERE so_far - cardinality(features) < :most
ORDER BY number;

-- name: done!
DELETE FROM search_queue WHERE number = ANY(:numbers);

-- name: texts
-- The labels of queued features, once a text.
SELECT DISTINCT ON (feature.label_sha256) feature.label_sha256, feature.label
FROM search_queue
CROSS JOIN LATERAL unnest(search_queue.features) AS queued (index)
JOIN feature ON feature.dictionary_id = search_queue.dictionary_id AND feature.index = queued.index
WHERE search_queue.number = ANY(:numbers) AND feature.label IS NOT NULL;

-- name: add_words!
INSERT INTO label_word (tenant_id, word)
SELECT DISTINCT dictionary.tenant_id, word
FROM search_queue
JOIN dictionary ON dictionary.id = search_queue.dictionary_id
CROSS JOIN LATERAL unnest(search_queue.features) AS queued (index)
JOIN feature ON feature.dictionary_id = search_queue.dictionary_id AND feature.index = queued.index
CROSS JOIN LATERAL unnest(tsvector_to_array(to_tsvector('simple', feature.label))) AS word
WHERE search_queue.number = ANY(:numbers) AND feature.label IS NOT NULL
ORDER BY 1, 2
ON CONFLICT (tenant_id, word) DO NOTHING;

-- name: newest_model^
SELECT id, dimensions FROM embedding_model WHERE name = :name ORDER BY id DESC LIMIT 1;

-- name: model^
SELECT id, dimensions FROM embedding_model WHERE name = :name AND dimensions = :dimensions;

-- name: add_model$
INSERT INTO embedding_model (name, dimensions) VALUES (:name, :dimensions) RETURNING id;

-- name: make_index!
-- {index}, {model} and {dimensions} are numbers of ours: an index can't have parameters. Denser than by default (16, 64).
CREATE INDEX {index} ON embedding USING hnsw (CAST(vector AS halfvec({dimensions})) halfvec_ip_ops)
WITH (m = 24, ef_construction = 128)
WHERE model_id = {model};

-- name: known
SELECT text_sha256 FROM embedding WHERE model_id = :model_id AND text_sha256 = ANY(CAST(:sha256s AS bytea[]));

-- name: put!
INSERT INTO embedding (model_id, text_sha256, vector)
SELECT :model_id, text_sha256, CAST(vector AS halfvec)
FROM unnest(CAST(:sha256s AS bytea[]), CAST(:vectors AS text[])) AS new (text_sha256, vector)
ON CONFLICT (model_id, text_sha256) DO NOTHING;

-- name: some_embeddings
SELECT model_id, text_sha256 FROM embedding
WHERE (model_id, text_sha256) > (:model_id, :after)
ORDER BY model_id, text_sha256
LIMIT :most;

-- name: forget!
-- Of some embeddings in a row, those that no label has any more and those of other models.
DELETE FROM embedding
WHERE (model_id, text_sha256) > (:model_id, :after) AND (model_id, text_sha256) <= (:last_model, :last)
  AND (model_id <> :current OR NOT EXISTS (
        SELECT 1 FROM feature WHERE feature.label_sha256 = embedding.text_sha256));
