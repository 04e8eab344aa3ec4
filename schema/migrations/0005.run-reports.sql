-- What a run found, made once by its last job.
CREATE TABLE run_report (
    run_id uuid PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
