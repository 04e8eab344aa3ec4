-- name: latest_runs
-- Of each of some dictionaries, its newest run.
SELECT run.id, run.dictionary_id, run.spec, run.state, run.note, run.created_at, run.started_at, run.finished_at,
       run.n_features
FROM unnest(CAST(:ids AS uuid[])) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT * FROM run WHERE run.dictionary_id = wanted.id ORDER BY run.created_at DESC LIMIT 1
) AS run;

-- name: latest_reports
-- Of each of some dictionaries, what its newest report says of labels, methods and controls.
SELECT wanted.id, found.run_id, found.created_at, found.body -> 'n_features', found.body -> 'labels',
       found.body -> 'methods', found.body -> 'controls'
FROM unnest(CAST(:ids AS uuid[])) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT run_report.run_id, run_report.created_at, run_report.body
    FROM run JOIN run_report ON run_report.run_id = run.id
    WHERE run.dictionary_id = wanted.id
    ORDER BY run.created_at DESC
    LIMIT 1
) AS found;

-- name: labelled
-- The order keeps to the index of statuses, whatever share of all features has this one: only so many are looked at.
SELECT wanted.id, (
    SELECT count(*)
    FROM (
        SELECT 1 FROM feature
        WHERE feature.dictionary_id = wanted.id AND feature.status = 'ok'
        ORDER BY feature.index
        LIMIT :most
    ) AS counted
)
FROM unnest(CAST(:ids AS uuid[])) AS wanted (id);

-- name: spent
SELECT run.dictionary_id, CAST(sum(spending.spent_tokens) AS bigint),
       CASE WHEN count(spending.spent_nanodollars) = count(*) THEN CAST(sum(spending.spent_nanodollars) AS bigint) END
FROM run JOIN spending ON spending.run_id = run.id
WHERE run.dictionary_id = ANY(CAST(:ids AS uuid[]))
GROUP BY run.dictionary_id;

-- name: unfinished_runs
SELECT run.id, run.dictionary_id, run.spec, run.state, run.note, run.created_at, run.started_at, run.finished_at,
       run.n_features, dictionary.spec ->> 'name'
FROM run JOIN dictionary ON dictionary.id = run.dictionary_id
WHERE run.tenant_id = :tenant_id AND run.state IN ('queued', 'running', 'paused')
ORDER BY run.created_at DESC, run.id
LIMIT :most;

-- name: collections
SELECT collection.id, collection.name, collection.created_at, count(collection_dictionary.dictionary_id)
FROM (
    SELECT * FROM collection WHERE tenant_id = :tenant_id ORDER BY created_at DESC, id LIMIT :most
) AS collection
LEFT JOIN collection_dictionary ON collection_dictionary.collection_id = collection.id
GROUP BY collection.id, collection.name, collection.created_at
ORDER BY collection.created_at DESC, collection.id;

-- name: collections_of
SELECT collection.id, collection.name
FROM collection_dictionary JOIN collection ON collection.id = collection_dictionary.collection_id
WHERE collection_dictionary.dictionary_id = :dictionary_id
ORDER BY collection.created_at DESC, collection.id
LIMIT :most;

-- name: dictionary_names
SELECT id, spec ->> 'name' FROM dictionary
WHERE tenant_id = :tenant_id
ORDER BY created_at DESC, id
LIMIT :most;

-- name: names_of
SELECT id, spec ->> 'name' FROM dictionary WHERE id = ANY(CAST(:ids AS uuid[]));

-- name: measured
-- What the current labels of some features are measured by. The embedding judge's output score goes before the LLM
-- judge's, as in the columns of a feature.
SELECT feature.dictionary_id, feature.index, label.author, nullif(label.body -> 'input', 'null') - 'details',
       coalesce(nullif(label.body -> 'output', 'null'), nullif(label.body -> 'output_llm', 'null')) - 'details'
FROM unnest(CAST(:dictionaries AS uuid[]), CAST(:indices AS integer[])) AS wanted (dictionary_id, index)
JOIN feature ON feature.dictionary_id = wanted.dictionary_id AND feature.index = wanted.index
JOIN label ON label.id = feature.label_id;

-- name: with_input_lift
SELECT index FROM feature
WHERE dictionary_id = :dictionary_id AND input_lift IS NOT NULL
ORDER BY input_lift, index
LIMIT :most;

-- name: lifts
SELECT index, input_lift, output_lift FROM feature
WHERE dictionary_id = :dictionary_id AND index = ANY(CAST(:indices AS integer[]))
  AND input_lift IS NOT NULL AND output_lift IS NOT NULL;
