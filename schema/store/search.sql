-- name: dictionaries
SELECT id, CAST(spec ->> 'n_features' AS integer) FROM dictionary
WHERE tenant_id = :tenant_id AND (CAST(:dictionary_id AS uuid) IS NULL OR id = :dictionary_id);

-- name: lexemes
-- Of each word of a question that is not a stop word: the lexemes of itself and of words that are spelt nearly so.
SELECT asked.word, ARRAY(
    SELECT DISTINCT lexeme
    FROM (
        SELECT asked.word
        UNION ALL
        (SELECT word FROM label_word
         WHERE tenant_id = :tenant_id AND word %% asked.word
         ORDER BY similarity(word, asked.word) DESC, word
         LIMIT :most)
    ) AS alike
    CROSS JOIN LATERAL unnest(tsvector_to_array(to_tsvector('english', alike.word))) AS lexeme
)
FROM unnest(tsvector_to_array(to_tsvector('simple', :q))) AS asked (word)
WHERE to_tsvector('english', asked.word) <> ''
LIMIT :most_words;

-- name: by_words
-- {question} and {conditions} are put in by search.py from fixed lists. Words that a great many labels have can't all be
-- ranked in time: as many as are looked at.
SELECT dictionary_id, index
FROM (
    SELECT feature.dictionary_id, feature.index, feature.input_lift, ts_rank_cd(feature.words, {question}, 1) AS rank
    FROM feature
    WHERE feature.words @@ {question} AND {conditions}
    LIMIT :most_ranked
) AS found
ORDER BY rank DESC, input_lift DESC NULLS LAST, dictionary_id, index
LIMIT :most;

-- name: walk_the_index!
-- How `by_meaning` is to be carried out: along the index, which goes on until enough has passed the conditions.
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', :ef, true),
       set_config('hnsw.max_scan_tuples', :most, true), set_config('enable_sort', 'off', true),
       set_config('enable_seqscan', 'off', true);

-- name: by_meaning
-- The index is that of one model: its number and its dimensions stand in it, so they can't be parameters here.
SELECT found.dictionary_id, found.index, near.similarity
FROM (
    SELECT text_sha256,
           -(CAST(vector AS halfvec({dimensions})) <#> CAST(CAST(:vector AS text) AS halfvec({dimensions}))) AS similarity
    FROM embedding
    WHERE model_id = {model}
    ORDER BY CAST(vector AS halfvec({dimensions})) <#> CAST(CAST(:vector AS text) AS halfvec({dimensions}))
    LIMIT :most_texts
) AS near
CROSS JOIN LATERAL (
    SELECT feature.dictionary_id, feature.index FROM feature
    WHERE feature.label_sha256 = near.text_sha256 AND {conditions}
    LIMIT :most
) AS found
LIMIT :most;

-- name: walk_no_more!
SELECT set_config('enable_sort', 'on', true), set_config('enable_seqscan', 'on', true);

-- name: by_all_meanings
-- The same without the index: all that pass the conditions are compared.
WITH compared AS MATERIALIZED (
    SELECT feature.dictionary_id, feature.index,
           -(embedding.vector <#> CAST(CAST(:vector AS text) AS halfvec)) AS similarity
    FROM feature JOIN embedding ON embedding.model_id = :model AND embedding.text_sha256 = feature.label_sha256
    WHERE {conditions}
)
SELECT dictionary_id, index, similarity FROM compared ORDER BY similarity DESC, dictionary_id, index LIMIT :most;

-- name: features
-- Without a model or a vector, no similarity.
SELECT feature.dictionary_id, -(embedding.vector <#> CAST(CAST(:vector AS text) AS halfvec)),
       feature.index, feature.status, feature.label, feature.method, feature.density,
       feature.max_activation, feature.input_success, feature.input_value, feature.input_lift, feature.output_success,
       feature.output_value, feature.output_lift
FROM unnest(CAST(:dictionaries AS uuid[]), CAST(:indices AS integer[])) AS wanted (dictionary_id, index)
JOIN feature ON feature.dictionary_id = wanted.dictionary_id AND feature.index = wanted.index
LEFT JOIN embedding
    ON embedding.model_id = CAST(:model AS integer) AND embedding.text_sha256 = feature.label_sha256;

-- name: n_waiting$
SELECT coalesce(sum(cardinality(features)), 0)
FROM (
    SELECT features FROM search_queue
    WHERE what = 'labels' AND dictionary_id = ANY(CAST(:dictionaries AS uuid[]))
    LIMIT 1000
) AS queued;
