-- name: of_runs
-- A part of the features of one run by position, each with what both runs said of it. Bodies are read after the joins, so
-- that none is read in vain, and once each.
SELECT mine.position, mine.feature, theirs.feature IS NOT NULL,
       a.id, x.text, x.status, x.method,
       x.input ->> 'lift', x.input ->> 'lift_low', x.input ->> 'lift_high', x.input ->> 'success',
       x.output ->> 'lift', x.output ->> 'lift_low', x.output ->> 'lift_high', x.output ->> 'success',
       b.id, y.text, y.status, y.method,
       y.input ->> 'lift', y.input ->> 'lift_low', y.input ->> 'lift_high', y.input ->> 'success',
       y.output ->> 'lift', y.output ->> 'lift_low', y.output ->> 'lift_high', y.output ->> 'success'
FROM (
    SELECT position, feature, label_id FROM run_feature
    WHERE run_id = :run_id AND selected AND position > :after
    ORDER BY position
    LIMIT :most
) AS mine
LEFT JOIN run_feature AS theirs ON theirs.run_id = :against AND theirs.feature = mine.feature AND theirs.selected
LEFT JOIN label AS a ON a.id = mine.label_id
LEFT JOIN label AS b ON b.id = theirs.label_id
LEFT JOIN LATERAL (
    SELECT text, status, method, input, coalesce(output, output_llm) AS output FROM jsonb_to_record(a.body)
        AS said (text text, status text, method text, input jsonb, output jsonb, output_llm jsonb)
    OFFSET 0
) AS x ON true
LEFT JOIN LATERAL (
    SELECT text, status, method, input, coalesce(output, output_llm) AS output FROM jsonb_to_record(b.body)
        AS said (text text, status text, method text, input jsonb, output jsonb, output_llm jsonb)
    OFFSET 0
) AS y ON true
ORDER BY mine.position;

-- name: part
SELECT position, feature FROM run_feature
WHERE run_id = :run_id AND selected AND position > :after
ORDER BY position
LIMIT :most;

-- name: recipe$
-- All scores of a run have one recipe; any label that was measured knows it.
SELECT coalesce(label.body #>> '{input,recipe}', label.body #>> '{output,recipe}', label.body #>> '{output_llm,recipe}')
FROM run_feature JOIN label ON label.id = run_feature.label_id
WHERE run_feature.run_id = :run_id AND run_feature.position >= :lo AND run_feature.position < :hi
  AND label.body ->> 'description_id' IS NOT NULL
ORDER BY run_feature.position
LIMIT 1;

-- name: block_size$
-- The first blocks are those of the pool, and may be smaller.
SELECT max(feature_hi - feature_lo) FROM job WHERE run_id = :run_id AND stage = 'describe' AND block < 1000;

-- name: described
-- Of several descriptions by one method, as others' labels may be, the first.
SELECT DISTINCT ON (description.feature, description.method)
       description.feature, description.method, description.id, description.body ->> 'text', description.status,
       description.method,
       input.body ->> 'lift', input.body ->> 'lift_low', input.body ->> 'lift_high', input.body ->> 'success',
       output.body ->> 'lift', output.body ->> 'lift_low', output.body ->> 'lift_high', output.body ->> 'success'
FROM description
LEFT JOIN score AS input ON input.description_id = description.id AND input.kind = 'input' AND input.recipe = :recipe
LEFT JOIN LATERAL (
    SELECT body FROM score
    WHERE description_id = description.id AND kind IN ('output', 'output_llm') AND recipe = :recipe
    ORDER BY kind
    LIMIT 1
) AS output ON true
WHERE description.id = ANY(CAST(:ids AS bigint[])) AND description.method = ANY(CAST(:methods AS text[]))
ORDER BY description.feature, description.method, description.id;
