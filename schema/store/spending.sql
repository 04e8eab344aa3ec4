-- name: open!
INSERT INTO spending (run_id, most_nanodollars, most_tokens) VALUES (:run_id, :most_nanodollars, :most_tokens);

-- name: get^
SELECT most_nanodollars, most_tokens, spent_nanodollars, spent_tokens, reserved_nanodollars, reserved_tokens,
       needs_nanodollars, needs_tokens, n_settled, n_open, CAST(extract(epoch FROM clock_timestamp() - changed_at) AS double precision)
FROM spending
WHERE run_id = :run_id;

-- name: lock^
SELECT most_nanodollars, most_tokens, spent_nanodollars, spent_tokens, reserved_nanodollars, reserved_tokens,
       needs_nanodollars, needs_tokens, n_settled, n_open, CAST(extract(epoch FROM clock_timestamp() - changed_at) AS double precision)
FROM spending
WHERE run_id = :run_id
FOR UPDATE;

-- name: reserve^
-- A condition that fails locks nothing; one that holds is checked again by Postgres once the row is ours.
UPDATE spending
SET reserved_nanodollars = reserved_nanodollars + CAST(:nanodollars AS bigint),
    reserved_tokens = reserved_tokens + :tokens, n_open = n_open + 1, changed_at = clock_timestamp()
WHERE run_id = :run_id
  AND (most_nanodollars IS NULL
       OR spent_nanodollars + reserved_nanodollars + CAST(:nanodollars AS bigint) <= most_nanodollars)
  AND (most_tokens IS NULL OR spent_tokens + reserved_tokens + :tokens <= most_tokens)
  AND EXISTS (SELECT 1 FROM run WHERE id = :run_id AND state IN ('queued', 'running'))
RETURNING run_id;

-- name: settle^
UPDATE spending
SET reserved_nanodollars = reserved_nanodollars - CAST(:reserved_nanodollars AS bigint),
    reserved_tokens = reserved_tokens - :reserved_tokens,
    spent_nanodollars = spent_nanodollars + CAST(:nanodollars AS bigint), spent_tokens = spent_tokens + :tokens,
    n_open = n_open - 1, n_settled = n_settled + :n, changed_at = clock_timestamp()
WHERE run_id = :run_id
RETURNING most_nanodollars IS NOT NULL OR most_tokens IS NOT NULL;

-- name: refuse!
UPDATE spending SET needs_nanodollars = :nanodollars, needs_tokens = :tokens WHERE run_id = :run_id;

-- name: set_budget!
UPDATE spending
SET most_nanodollars = :most_nanodollars, most_tokens = :most_tokens, needs_nanodollars = 0, needs_tokens = 0
WHERE run_id = :run_id;
