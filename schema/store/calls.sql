-- name: put!
WITH entered AS (
    INSERT INTO call (tenant_id, run_id, feature, purpose, profile, model, status, attempts, prompt_tokens, cached_tokens,
                      completion_tokens, dollars, latency_s, from_cache)
    VALUES (:tenant_id, :run_id, :feature, :purpose, :profile, :model, :status, :attempts, :prompt_tokens, :cached_tokens,
            :completion_tokens, :dollars, :latency_s, :from_cache)
    RETURNING profile, purpose, status, from_cache, attempts, prompt_tokens, cached_tokens, completion_tokens, dollars,
              latency_s, run_id
), of_run AS (
    INSERT INTO usage_tally AS tally (
        run_id, purpose, status, slot, calls, from_cache, attempts, prompt_tokens, cached_tokens, completion_tokens, dollars,
        unpriced, seconds)
    SELECT run_id, purpose, status, mod(pg_backend_pid(), 8), 1, CASE WHEN from_cache THEN 1 ELSE 0 END, attempts,
           prompt_tokens, cached_tokens, completion_tokens, coalesce(dollars, 0), CASE WHEN dollars IS NULL THEN 1 ELSE 0 END,
           latency_s
    FROM entered
    ON CONFLICT (run_id, purpose, status, slot) DO UPDATE
    SET calls = tally.calls + 1,
        from_cache = tally.from_cache + excluded.from_cache,
        attempts = tally.attempts + excluded.attempts,
        prompt_tokens = tally.prompt_tokens + excluded.prompt_tokens,
        cached_tokens = tally.cached_tokens + excluded.cached_tokens,
        completion_tokens = tally.completion_tokens + excluded.completion_tokens,
        dollars = tally.dollars + excluded.dollars,
        unpriced = tally.unpriced + excluded.unpriced,
        seconds = tally.seconds + excluded.seconds
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
SELECT purpose, status, CAST(sum(calls) AS bigint), CAST(sum(from_cache) AS bigint), CAST(sum(attempts) AS bigint),
       CAST(sum(prompt_tokens) AS bigint), CAST(sum(cached_tokens) AS bigint), CAST(sum(completion_tokens) AS bigint),
       CASE WHEN sum(unpriced) = 0 THEN sum(dollars) END, sum(seconds)
FROM usage_tally
WHERE run_id = :run_id
GROUP BY purpose, status
ORDER BY purpose, status;

-- name: totals^
SELECT count(*), count(*) FILTER (WHERE from_cache), coalesce(sum(attempts), 0), coalesce(sum(prompt_tokens), 0),
       coalesce(sum(cached_tokens), 0), coalesce(sum(completion_tokens), 0),
       CASE WHEN count(dollars) = count(*) THEN coalesce(sum(dollars), 0) END
FROM call
WHERE tenant_id = :tenant_id
  AND (CAST(:run_id AS uuid) IS NULL OR run_id = :run_id)
  AND (CAST(:dictionary_id AS uuid) IS NULL OR run_id IN (SELECT id FROM run WHERE dictionary_id = :dictionary_id))
  AND (CAST(:since AS timestamptz) IS NULL OR created_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR created_at < :until);

-- name: daily
SELECT count(*), count(*) FILTER (WHERE from_cache), sum(attempts), sum(prompt_tokens), sum(cached_tokens),
       sum(completion_tokens), CASE WHEN count(dollars) = count(*) THEN sum(dollars) END, day, purpose, model
FROM (SELECT *, CAST(created_at AT TIME ZONE 'UTC' AS date) AS day FROM call) AS call
WHERE tenant_id = :tenant_id
  AND (CAST(:run_id AS uuid) IS NULL OR run_id = :run_id)
  AND (CAST(:dictionary_id AS uuid) IS NULL OR run_id IN (SELECT id FROM run WHERE dictionary_id = :dictionary_id))
  AND (CAST(:since AS timestamptz) IS NULL OR created_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR created_at < :until)
  AND (CAST(:after_day AS date) IS NULL OR created_at < CAST(CAST(:after_day AS date) + 1 AS timestamp) AT TIME ZONE 'UTC')
  AND (CAST(:after_day AS date) IS NULL OR day < :after_day
       OR (purpose, model) > (CAST(:after_purpose AS text), CAST(:after_model AS text)))
GROUP BY day, purpose, model
ORDER BY day DESC, purpose, model
LIMIT :most;
