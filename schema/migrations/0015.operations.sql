-- What an operator watches: who is there, what LLM calls came to in all, and what was lost.

CREATE TABLE process (
    name text NOT NULL,
    kind text NOT NULL,
    release text NOT NULL,
    blobs text,
    secret text,
    skew_s double precision,
    free_bytes bigint,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, kind)
);

CREATE TABLE mishap (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('lost', 'dead')),
    stage text NOT NULL,
    run_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE call_tally (
    profile text NOT NULL,
    purpose text NOT NULL,
    status text NOT NULL,
    from_cache boolean NOT NULL,
    bucket smallint NOT NULL,
    slot smallint NOT NULL,
    calls bigint NOT NULL,
    attempts bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    dollars double precision NOT NULL,
    unpriced bigint NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (profile, purpose, status, from_cache, bucket, slot)
) WITH (fillfactor = 50);

INSERT INTO call_tally
SELECT profile, purpose, status, from_cache,
       width_bucket(CAST(latency_s AS double precision), CAST('{0.1,0.25,0.5,1,2.5,5,10,20,30,60,120,300}' AS double precision[])),
       0, count(*), sum(attempts), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
       coalesce(sum(dollars), 0), count(*) - count(dollars), sum(latency_s)
FROM call
GROUP BY 1, 2, 3, 4, 5;
