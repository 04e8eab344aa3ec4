-- Trials: what people try on a subject while they wait.

CREATE TABLE trial (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('activations', 'steering')),
    feature integer,
    spec jsonb NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    error text,
    reason text,
    result jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX trial_unfinished ON trial (created_at) WHERE state IN ('waiting', 'running');
CREATE INDEX trial_by_age ON trial (created_at);
CREATE INDEX trial_by_dictionary ON trial (dictionary_id);

-- Who follows a run is told when it or one of its jobs changes. A transaction tells of a run once, however many change.
CREATE FUNCTION tell_of_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('glossarium_run', NEW.id::text);
    RETURN NULL;
END
$$;
CREATE FUNCTION tell_of_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('glossarium_run', NEW.run_id::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER run_changed AFTER UPDATE OF state, note, n_features ON run FOR EACH ROW
    WHEN ((OLD.state, OLD.note, OLD.n_features) IS DISTINCT FROM (NEW.state, NEW.note, NEW.n_features))
    EXECUTE FUNCTION tell_of_run();
CREATE TRIGGER job_changed AFTER UPDATE OF state, progress ON job FOR EACH ROW
    WHEN (NEW.state IN ('done', 'dead') AND OLD.state = 'leased' OR NEW.state = 'leased' AND OLD.progress < NEW.progress)
    EXECUTE FUNCTION tell_of_job();
