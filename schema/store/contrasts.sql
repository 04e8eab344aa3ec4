-- name: of_runs
-- A part of the features of one run by position, each with what both runs said of it. A body is read once, into columns.
SELECT mine.position, mine.feature, theirs.feature IS NOT NULL,
       a.id, a.text, a.status, a.method, a.input, coalesce(a.output, a.output_llm),
       b.id, b.text, b.status, b.method, b.input, coalesce(b.output, b.output_llm)
FROM (
    SELECT position, feature, label_id FROM run_feature
    WHERE run_id = :run_id AND selected AND position > :after
    ORDER BY position
    LIMIT :most
) AS mine
LEFT JOIN run_feature AS theirs ON theirs.run_id = :against AND theirs.feature = mine.feature AND theirs.selected
LEFT JOIN LATERAL (
    SELECT label.id, said.* FROM label,
        jsonb_to_record(label.body) AS said (text text, status text, method text, input jsonb, output jsonb, output_llm jsonb)
    WHERE label.id = mine.label_id
) AS a ON true
LEFT JOIN LATERAL (
    SELECT label.id, said.* FROM label,
        jsonb_to_record(label.body) AS said (text text, status text, method text, input jsonb, output jsonb, output_llm jsonb)
    WHERE label.id = theirs.label_id
) AS b ON true
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

-- name: of_methods
-- Of several descriptions by one method, as others' labels may be, the first.
SELECT DISTINCT ON (description.feature, description.method)
       description.feature, description.method, description.body ->> 'text', description.status, input.body,
       coalesce(output.body, output_llm.body)
FROM job, jsonb_each(job.result -> :part) AS of_feature (feature, ids), jsonb_array_elements_text(
         CASE jsonb_typeof(of_feature.ids) WHEN 'array' THEN of_feature.ids ELSE of_feature.ids -> 'refined' END) AS made (id)
JOIN description ON description.id = CAST(made.id AS bigint) AND description.method = ANY(CAST(:methods AS text[]))
LEFT JOIN score AS input ON input.description_id = description.id AND input.kind = 'input' AND input.recipe = :recipe
LEFT JOIN score AS output ON output.description_id = description.id AND output.kind = 'output' AND output.recipe = :recipe
LEFT JOIN score AS output_llm
    ON output_llm.description_id = description.id AND output_llm.kind = 'output_llm' AND output_llm.recipe = :recipe
WHERE job.run_id = :run_id AND job.stage = :stage AND job.block = ANY(CAST(:blocks AS integer[]))
ORDER BY description.feature, description.method, description.id;
