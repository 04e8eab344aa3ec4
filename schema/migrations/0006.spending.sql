CREATE TABLE spending (
    run_id uuid PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    most_nanodollars bigint,
    most_tokens bigint,
    spent_nanodollars bigint DEFAULT 0,
    spent_tokens bigint NOT NULL DEFAULT 0,
    reserved_nanodollars bigint DEFAULT 0,
    reserved_tokens bigint NOT NULL DEFAULT 0,
    needs_nanodollars bigint NOT NULL DEFAULT 0,
    needs_tokens bigint NOT NULL DEFAULT 0,
    n_settled bigint NOT NULL DEFAULT 0,
    n_open bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);

-- What runs spent before there were budgets, as their ledger has it.
INSERT INTO spending (run_id, spent_nanodollars, spent_tokens, n_settled)
SELECT run.id,
       CASE WHEN count(call.id) = count(call.dollars) THEN ceil(coalesce(sum(call.dollars), 0) * 1e9) END,
       coalesce(sum(call.prompt_tokens + call.completion_tokens), 0), coalesce(sum(call.attempts), 0)
FROM run LEFT JOIN call ON call.run_id = run.id
GROUP BY run.id;

-- What the LLM profiles of a run stood for when it was submitted.
ALTER TABLE run ADD COLUMN llms jsonb;
