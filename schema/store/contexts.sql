-- name: add_reading!
INSERT INTO reading (recipe) VALUES (:recipe) ON CONFLICT (recipe) DO NOTHING;

-- name: reading$
SELECT id FROM reading WHERE recipe = :recipe;

-- name: present
SELECT number FROM context WHERE reading_id = :reading_id AND number = ANY(:numbers);

-- name: put!
INSERT INTO context (reading_id, number, tokens)
SELECT :reading_id, number, tokens
FROM unnest(CAST(:numbers AS bigint[]), CAST(:tokens AS bytea[])) AS new (number, tokens)
ORDER BY number
ON CONFLICT (reading_id, number) DO NOTHING;

-- name: load
SELECT number, tokens FROM context WHERE reading_id = :reading_id AND number = ANY(:numbers);
