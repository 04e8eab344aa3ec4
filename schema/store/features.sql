-- name: create!
INSERT INTO feature (dictionary_id, index)
SELECT :dictionary_id, index FROM generate_series(CAST(:lo AS integer), CAST(:hi AS integer) - 1) AS new (index)
ON CONFLICT (dictionary_id, index) DO NOTHING;

-- name: set_density!
UPDATE feature
SET density = measured.density, max_activation = measured.maximum
FROM unnest(CAST(:indices AS integer[]), CAST(:densities AS real[]), CAST(:maxima AS real[]))
     AS measured (index, density, maximum)
WHERE feature.dictionary_id = :dictionary_id AND feature.index = measured.index;

-- name: get^
SELECT index, status, label, method, density, max_activation, input_success, input_value, input_lift, output_success,
       output_value, output_lift
FROM feature
WHERE dictionary_id = :dictionary_id AND index = :index;

-- name: some
SELECT index, status, label, method, density, max_activation, input_success, input_value, input_lift, output_success,
       output_value, output_lift
FROM feature
WHERE dictionary_id = :dictionary_id AND index = ANY(CAST(:indices AS integer[]))
ORDER BY index;

-- name: page
-- {beyond} and {order} are put in by features.py from a fixed list: keyset pages need other SQL for other orders.
SELECT index, status, label, method, density, max_activation, input_success, input_value, input_lift, output_success,
       output_value, output_lift
FROM feature
WHERE dictionary_id = :dictionary_id
  AND {beyond}
  AND (CAST(:status AS text[]) IS NULL OR status = ANY(:status))
  AND (CAST(:method AS text[]) IS NULL OR method = ANY(:method))
  AND (CAST(:input_success AS boolean) IS NULL OR input_success = :input_success)
  AND (CAST(:output_success AS boolean) IS NULL OR output_success = :output_success)
  AND (CAST(:min_density AS real) IS NULL OR density >= CAST(:min_density AS real))
  AND (CAST(:max_density AS real) IS NULL OR density <= CAST(:max_density AS real))
  AND (CAST(:min_input_value AS real) IS NULL OR input_value >= CAST(:min_input_value AS real))
  AND (CAST(:max_input_value AS real) IS NULL OR input_value <= CAST(:max_input_value AS real))
  AND (CAST(:min_input_lift AS real) IS NULL OR input_lift >= CAST(:min_input_lift AS real))
  AND (CAST(:max_input_lift AS real) IS NULL OR input_lift <= CAST(:max_input_lift AS real))
  AND (CAST(:min_output_value AS real) IS NULL OR output_value >= CAST(:min_output_value AS real))
  AND (CAST(:max_output_value AS real) IS NULL OR output_value <= CAST(:max_output_value AS real))
  AND (CAST(:min_output_lift AS real) IS NULL OR output_lift >= CAST(:min_output_lift AS real))
  AND (CAST(:max_output_lift AS real) IS NULL OR output_lift <= CAST(:max_output_lift AS real))
  AND (CAST(:pattern AS text) IS NULL OR label ILIKE :pattern)
  AND (CAST(:run_id AS uuid) IS NULL OR EXISTS (
        SELECT 1 FROM run_feature
        WHERE run_feature.run_id = :run_id AND run_feature.feature = feature.index AND run_feature.selected))
ORDER BY {order}
LIMIT :most;

-- name: count_alive^
SELECT count(*) FILTER (WHERE density > 0), count(density) FROM feature WHERE dictionary_id = :dictionary_id;
