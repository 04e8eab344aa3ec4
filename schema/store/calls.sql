-- name: put!
WITH entered AS (
    INSERT INTO call (tenant_id, run_id, feature, purpose, profile, model, status, attempts, prompt_tokens, cached_tokens,
                      completion_tokens, dollars, latency_s, from_cache)
    VALUES (:tenant_id, :run_id, :feature, :purpose, :profile, :model, :status, :attempts, :prompt_tokens, :cached_tokens,
            :completion_tokens, :dollars, :latency_s, :from_cache)
    RETURNING profile, purpose, status, from_cache, attempts, prompt_tokens, cached_tokens, completion_tokens, dollars,
              latency_s
)
INSERT INTO call_tally AS tally (
    profile, purpose, status, from_cache, bucket, slot, calls, attempts, prompt_tokens, cached_tokens, completion_tokens,
    dollars, unpriced, seconds)
SELECT profile, purpose, status, from_cache,
       width_bucket(CAST(latency_s AS double precision), CAST(:bounds AS double precision[])), mod(pg_backend_pid(), 8), 1,
       attempts, prompt_tokens, cached_tokens, completion_tokens, coalesce(dollars, 0),
       CASE WHEN dollars IS NULL THEN 1 ELSE 0 END, latency_s
FROM entered
ON CONFLICT (profile, purpose, status, from_cache, bucket, slot) DO UPDATE
SET calls = tally.calls + 1,
    attempts = tally.attempts + excluded.attempts,
    prompt_tokens = tally.prompt_tokens + excluded.prompt_tokens,
    cached_tokens = tally.cached_tokens + excluded.cached_tokens,
    completion_tokens = tally.completion_tokens + excluded.completion_tokens,
    dollars = tally.dollars + excluded.dollars,
    unpriced = tally.unpriced + excluded.unpriced,
    seconds = tally.seconds + excluded.seconds;

-- name: usage
-- A sum of dollars is known only where every price is.
SELECT purpose, status, count(*), count(*) FILTER (WHERE from_cache), sum(attempts), sum(prompt_tokens),
       sum(cached_tokens), sum(completion_tokens), CASE WHEN count(dollars) = count(*) THEN sum(dollars) END,
       sum(latency_s)
FROM call
WHERE run_id = :run_id
GROUP BY purpose, status
ORDER BY purpose, status;
