-- What every LLM call cost. No foreign key to the run: the ledger outlives what was bought, and hundreds of calls at once
-- would all lock the run's row.
CREATE TABLE call (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    run_id uuid NOT NULL,
    feature integer,
    purpose text NOT NULL,
    profile text NOT NULL,
    model text NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL,
    prompt_tokens integer NOT NULL,
    cached_tokens integer NOT NULL,
    completion_tokens integer NOT NULL,
    dollars double precision,
    latency_s real NOT NULL,
    from_cache boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX call_by_run ON call (run_id);
