-- Schedules, what each of their slots led to, and the features that a refresh was about, before and after.

-- What the labels of a run are made from, part by part: a refresh compares it with what they would be made from now.
ALTER TABLE run ADD COLUMN ingredients jsonb;

CREATE TABLE schedule (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    spec jsonb NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX schedule_by_tenant ON schedule (tenant_id, created_at DESC, id);
CREATE INDEX schedule_by_dictionary ON schedule (dictionary_id);

-- One row a slot, whoever fires it and however often.
CREATE TABLE refresh (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    schedule_id uuid NOT NULL REFERENCES schedule ON DELETE CASCADE,
    slot timestamptz NOT NULL,
    state text NOT NULL
        CHECK (state IN ('due', 'running', 'done', 'nothing', 'skipped', 'failed', 'cancelled')),
    run_id uuid REFERENCES run ON DELETE SET NULL,
    note text,
    ingredients jsonb,
    n_missed integer NOT NULL DEFAULT 0,
    n_stale integer,
    n_features integer,
    reasons jsonb NOT NULL DEFAULT '{}',
    changes jsonb NOT NULL DEFAULT '{}',
    fired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    UNIQUE (schedule_id, slot)
);
CREATE INDEX refresh_unfinished ON refresh (fired_at) WHERE state IN ('due', 'running');
CREATE INDEX refresh_by_run ON refresh (run_id);

CREATE TABLE refresh_feature (
    refresh_id uuid NOT NULL REFERENCES refresh ON DELETE CASCADE,
    feature integer NOT NULL,
    reason text NOT NULL,
    change text,
    before jsonb NOT NULL,
    after jsonb,
    PRIMARY KEY (refresh_id, feature)
);
