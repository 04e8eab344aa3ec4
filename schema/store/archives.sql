-- What an archive holds, some features at a time. Bodies come as text: they are passed on as they are. Orders are those of
-- the content, so that the same content is the same archive.

-- name: features
SELECT index, density, max_activation, label_id FROM feature
WHERE dictionary_id = :dictionary_id AND index >= :lo AND index < :hi
ORDER BY index;

-- name: evidence
SELECT evidence.feature, evidence.kind, evidence.recipe, evidence.payload, evidence.created_at, evidence.provenance_id,
       reading.id, reading.recipe
FROM evidence LEFT JOIN reading ON reading.id = evidence.reading_id
WHERE evidence.dictionary_id = :dictionary_id AND evidence.feature >= :lo AND evidence.feature < :hi
ORDER BY evidence.feature, evidence.kind COLLATE "C", evidence.recipe COLLATE "C";

-- name: provenance
SELECT id, CAST(document AS text) FROM provenance WHERE id = ANY(:ids);

-- name: descriptions
SELECT feature, id, CAST(body AS text), created_at FROM description
WHERE dictionary_id = :dictionary_id AND feature >= :lo AND feature < :hi
ORDER BY feature, method COLLATE "C", recipe COLLATE "C";

-- name: sentences
SELECT description_id, CAST(body - 'description_id' AS text), created_at FROM sentences
WHERE description_id = ANY(:ids)
ORDER BY description_id, recipe COLLATE "C";

-- name: scores
SELECT feature, description_id, CAST(body - 'description_id' AS text), created_at, kind, recipe FROM score
WHERE dictionary_id = :dictionary_id AND feature >= :lo AND feature < :hi;

-- name: labels
SELECT feature, id, run_id, author, recipe, created_at, CAST(body ->> 'description_id' AS bigint),
       CAST(body - 'description_id' #- '{input,description_id}' #- '{output,description_id}'
            #- '{output_llm,description_id}' AS text)
FROM label
WHERE dictionary_id = :dictionary_id AND feature >= :lo AND feature < :hi
ORDER BY feature, created_at, author COLLATE "C", recipe COLLATE "C";

-- name: members
SELECT run_feature.feature, run_feature.run_id, run_feature.position, run_feature.selected, run_feature.pooled,
       run_feature.label_id
FROM run JOIN run_feature ON run_feature.run_id = run.id
WHERE run.dictionary_id = :dictionary_id AND run_feature.feature >= :lo AND run_feature.feature < :hi
ORDER BY run_feature.feature, run.created_at, run.id;

-- name: runs
SELECT run.id, CAST(run.spec - 'dictionary_id' AS text),
       CASE WHEN run.state IN ('queued', 'running', 'paused') THEN 'cancelled' ELSE run.state END,
       CASE WHEN run.state IN ('queued', 'running', 'paused') THEN 'it was ' || run.state || ' when it was exported'
            ELSE run.note END, run.created_at, run.started_at,
       run.finished_at, run.n_features, CAST(run.llms AS text), CAST(run.ingredients AS text),
       CAST(run_report.body - 'run_id' - 'dictionary_id' AS text), run_report.created_at
FROM run LEFT JOIN run_report ON run_report.run_id = run.id
WHERE run.dictionary_id = :dictionary_id
ORDER BY run.created_at, run.id;

-- name: contexts
SELECT number, tokens FROM context
WHERE reading_id = :reading_id AND number > :after
ORDER BY number
LIMIT :most;

-- The other way round.

-- name: put_dictionary!
INSERT INTO dictionary (id, tenant_id, spec, state, weights_sha256, digest, created_at)
VALUES (:id, :tenant_id, :spec, :state, :weights_sha256, :digest, :created_at);

-- name: put_run!
INSERT INTO run (id, tenant_id, dictionary_id, spec, state, note, created_at, started_at, finished_at, n_features, llms, ingredients)
VALUES (:id, :tenant_id, :dictionary_id, :spec, :state, :note, :created_at, :started_at, :finished_at, :n_features,
        :llms, :ingredients);

-- name: put_report!
INSERT INTO run_report (run_id, body, created_at) VALUES (:run_id, :body, :created_at);

-- name: put_provenance
INSERT INTO provenance (document)
SELECT CAST(document AS jsonb) FROM unnest(CAST(:documents AS text[])) WITH ORDINALITY AS new (document, place)
ORDER BY place
RETURNING id;

-- name: put_evidence!
INSERT INTO evidence (dictionary_id, feature, kind, recipe, payload, created_at, provenance_id, reading_id)
SELECT :dictionary_id, feature, kind, recipe, payload, created_at, provenance_id, reading_id
FROM unnest(CAST(:features AS int[]), CAST(:kinds AS text[]), CAST(:recipes AS text[]), CAST(:payloads AS bytea[]),
            CAST(:times AS timestamptz[]), CAST(:provenance AS bigint[]), CAST(:readings AS int[]))
     AS new (feature, kind, recipe, payload, created_at, provenance_id, reading_id);

-- name: put_descriptions
INSERT INTO description (dictionary_id, feature, method, recipe, status, body, created_at)
SELECT :dictionary_id, feature, CAST(body AS jsonb) ->> 'method', CAST(body AS jsonb) ->> 'recipe',
       CAST(body AS jsonb) ->> 'status', CAST(body AS jsonb), created_at
FROM unnest(CAST(:features AS int[]), CAST(:bodies AS text[]), CAST(:times AS timestamptz[])) WITH ORDINALITY
     AS new (feature, body, created_at, place)
ORDER BY place
RETURNING id;

-- name: put_sentences!
INSERT INTO sentences (description_id, recipe, body, created_at)
SELECT description_id, CAST(body AS jsonb) ->> 'recipe',
       CAST(body AS jsonb) || jsonb_build_object('description_id', description_id), created_at
FROM unnest(CAST(:descriptions AS bigint[]), CAST(:bodies AS text[]), CAST(:times AS timestamptz[]))
     AS new (description_id, body, created_at);

-- name: put_scores!
INSERT INTO score (dictionary_id, feature, kind, description_id, recipe, status, body, created_at)
SELECT :dictionary_id, feature, CAST(body AS jsonb) ->> 'kind', description_id, CAST(body AS jsonb) ->> 'recipe',
       CAST(body AS jsonb) ->> 'status', CAST(body AS jsonb) || jsonb_build_object('description_id', description_id),
       created_at
FROM unnest(CAST(:features AS int[]), CAST(:descriptions AS bigint[]), CAST(:bodies AS text[]),
            CAST(:times AS timestamptz[])) WITH ORDINALITY AS new (feature, description_id, body, created_at, place)
ORDER BY place;

-- name: put_labels
INSERT INTO label (dictionary_id, feature, run_id, author, recipe, body, created_at)
SELECT :dictionary_id, feature, run_id, author, recipe, CAST(body AS jsonb), created_at
FROM unnest(CAST(:features AS int[]), CAST(:runs AS uuid[]), CAST(:authors AS text[]), CAST(:recipes AS text[]),
            CAST(:bodies AS text[]), CAST(:times AS timestamptz[])) WITH ORDINALITY
     AS new (feature, run_id, author, recipe, body, created_at, place)
ORDER BY place
RETURNING id;

-- name: put_features!
INSERT INTO feature (dictionary_id, index, density, max_activation)
SELECT :dictionary_id, feature, density, max_activation
FROM unnest(CAST(:features AS int[]), CAST(:densities AS real[]), CAST(:maxima AS real[]))
     AS new (feature, density, max_activation);

-- name: put_members!
INSERT INTO run_feature (run_id, position, feature, selected, pooled, label_id)
SELECT run_id, position, feature, selected, pooled, label_id
FROM unnest(CAST(:runs AS uuid[]), CAST(:positions AS int[]), CAST(:features AS int[]), CAST(:selected AS bool[]),
            CAST(:pooled AS bool[]), CAST(:labels AS bigint[]))
     AS new (run_id, position, feature, selected, pooled, label_id);

-- name: add_reading$
INSERT INTO reading (recipe) VALUES (:recipe) RETURNING id;

-- name: put_contexts!
INSERT INTO context (reading_id, number, tokens)
SELECT :reading_id, number, tokens
FROM unnest(CAST(:numbers AS bigint[]), CAST(:tokens AS bytea[])) AS new (number, tokens)
ON CONFLICT (reading_id, number) DO NOTHING;
