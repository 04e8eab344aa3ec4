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

-- name: load
SELECT index, status, label, method, density, max_activation, input_success, input_value, input_lift, output_success,
       output_value, output_lift
FROM feature
WHERE dictionary_id = :dictionary_id AND index = ANY(:indices);

-- name: page
-- {conditions} and {order} are put in by features.py from fixed lists: other orders and filters need other SQL, and a
-- condition that is not asked for would keep an index from being used.
SELECT index, status, label, method, density, max_activation, input_success, input_value, input_lift, output_success,
       output_value, output_lift
FROM feature
WHERE dictionary_id = :dictionary_id AND {conditions}
ORDER BY {order}
LIMIT :most;

-- name: count_alive^
SELECT count(*) FILTER (WHERE density > 0), count(density) FROM feature WHERE dictionary_id = :dictionary_id;
