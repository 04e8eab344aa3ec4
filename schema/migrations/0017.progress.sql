-- How far a run is, what its labels are and what its calls used, counted where it happens: jobs, labels and calls of a large
-- run are millions, and how it stands is asked for every second.

CREATE TABLE stage_tally (
    run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE,
    stage text NOT NULL,
    slot smallint NOT NULL,
    jobs bigint NOT NULL DEFAULT 0,
    units bigint NOT NULL DEFAULT 0,
    jobs_done bigint NOT NULL DEFAULT 0,
    units_done bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    first_started_at timestamptz,
    last_finished_at timestamptz,
    PRIMARY KEY (run_id, stage, slot)
) WITH (fillfactor = 50);

CREATE FUNCTION tally_made_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign constant integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    INSERT INTO stage_tally AS tally (
        run_id, stage, slot, jobs, units, jobs_done, units_done, dead, seconds, first_started_at, last_finished_at)
    SELECT changed.run_id, changed.stage, 0, sign * count(*), sign * sum(changed.units),
           sign * count(*) FILTER (WHERE changed.state = 'done'),
           sign * coalesce(sum(changed.units) FILTER (WHERE changed.state = 'done'), 0),
           sign * count(*) FILTER (WHERE changed.state = 'dead'), sign * coalesce(sum(changed.seconds), 0),
           min(changed.started_at) FILTER (WHERE changed.state IN ('done', 'dead')),
           max(changed.finished_at) FILTER (WHERE changed.state IN ('done', 'dead'))
    FROM changed JOIN run ON run.id = changed.run_id
    GROUP BY changed.run_id, changed.stage
    ORDER BY changed.run_id, changed.stage
    ON CONFLICT (run_id, stage, slot) DO UPDATE
    SET jobs = tally.jobs + excluded.jobs,
        units = tally.units + excluded.units,
        jobs_done = tally.jobs_done + excluded.jobs_done,
        units_done = tally.units_done + excluded.units_done,
        dead = tally.dead + excluded.dead,
        seconds = tally.seconds + excluded.seconds,
        first_started_at = least(tally.first_started_at, excluded.first_started_at),
        last_finished_at = greatest(tally.last_finished_at, excluded.last_finished_at);
    RETURN NULL;
END
$$;
CREATE FUNCTION tally_ended_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    done constant integer := (NEW.state = 'done')::integer - (OLD.state = 'done')::integer;
BEGIN
    INSERT INTO stage_tally AS tally (
        run_id, stage, slot, jobs_done, units_done, dead, seconds, first_started_at, last_finished_at)
    VALUES (
        NEW.run_id, NEW.stage, 1 + mod(pg_backend_pid(), 8), done, done * NEW.units,
        (NEW.state = 'dead')::integer - (OLD.state = 'dead')::integer, coalesce(NEW.seconds, 0) - coalesce(OLD.seconds, 0),
        NEW.started_at, NEW.finished_at)
    ON CONFLICT (run_id, stage, slot) DO UPDATE
    SET jobs_done = tally.jobs_done + excluded.jobs_done,
        units_done = tally.units_done + excluded.units_done,
        dead = tally.dead + excluded.dead,
        seconds = tally.seconds + excluded.seconds,
        first_started_at = least(tally.first_started_at, excluded.first_started_at),
        last_finished_at = greatest(tally.last_finished_at, excluded.last_finished_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER jobs_inserted AFTER INSERT ON job REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION tally_made_jobs();
CREATE TRIGGER jobs_deleted AFTER DELETE ON job REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION tally_made_jobs();
CREATE CONSTRAINT TRIGGER job_ended AFTER UPDATE OF state ON job DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state IN ('done', 'dead') OR NEW.state IN ('done', 'dead')))
    EXECUTE FUNCTION tally_ended_job();

INSERT INTO stage_tally
SELECT run_id, stage, 0, count(*), sum(units), count(*) FILTER (WHERE state = 'done'),
       coalesce(sum(units) FILTER (WHERE state = 'done'), 0), count(*) FILTER (WHERE state = 'dead'),
       coalesce(sum(seconds), 0), min(started_at), max(finished_at) FILTER (WHERE state IN ('done', 'dead'))
FROM job
GROUP BY run_id, stage;

CREATE INDEX job_dead ON job (run_id, id) WHERE state = 'dead';

CREATE TABLE label_tally (
    run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE,
    method text,
    status text NOT NULL,
    slot smallint NOT NULL,
    n bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (run_id, method, status, slot)
) WITH (fillfactor = 50);

INSERT INTO label_tally
SELECT run_feature.run_id, label.body ->> 'method', label.body ->> 'status', 0, count(*)
FROM run_feature JOIN label ON label.id = run_feature.label_id
WHERE run_feature.selected
GROUP BY 1, 2, 3;

CREATE TABLE usage_tally (
    run_id uuid NOT NULL,
    purpose text NOT NULL,
    status text NOT NULL,
    slot smallint NOT NULL,
    calls bigint NOT NULL,
    from_cache bigint NOT NULL,
    attempts bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    dollars double precision NOT NULL,
    unpriced bigint NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (run_id, purpose, status, slot)
) WITH (fillfactor = 50);

INSERT INTO usage_tally
SELECT run_id, purpose, status, 0, count(*), count(*) FILTER (WHERE from_cache), sum(attempts), sum(prompt_tokens),
       sum(cached_tokens), sum(completion_tokens), coalesce(sum(dollars), 0), count(*) - count(dollars), sum(latency_s)
FROM call
GROUP BY run_id, purpose, status;
