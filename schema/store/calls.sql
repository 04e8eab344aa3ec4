-- name: put!
INSERT INTO call (tenant_id, run_id, feature, purpose, profile, model, status, attempts, prompt_tokens, cached_tokens,
                  completion_tokens, dollars, latency_s, from_cache)
VALUES (:tenant_id, :run_id, :feature, :purpose, :profile, :model, :status, :attempts, :prompt_tokens, :cached_tokens,
        :completion_tokens, :dollars, :latency_s, :from_cache);

-- name: usage
-- A sum of dollars is known only where every price is.
SELECT purpose, status, count(*), count(*) FILTER (WHERE from_cache), sum(attempts), sum(prompt_tokens),
       sum(cached_tokens), sum(completion_tokens), CASE WHEN count(dollars) = count(*) THEN sum(dollars) END,
       sum(latency_s)
FROM call
WHERE run_id = :run_id
GROUP BY purpose, status
ORDER BY purpose, status;
