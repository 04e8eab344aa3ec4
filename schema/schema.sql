-- The current DDL, for reading. A test proves that it equals all migrations applied.

CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE tenant (
    id smallint PRIMARY KEY,
    name text NOT NULL UNIQUE
);
INSERT INTO tenant (id, name) VALUES (1, 'default');

-- Keys are never deleted, only revoked: what was done with them refers to them.
CREATE TABLE api_key (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    name text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('read', 'submit', 'admin')),
    secret_sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    used_at timestamptz
);
CREATE INDEX api_key_by_tenant ON api_key (tenant_id, created_at DESC, id);

-- One row a request that changes something, or was to.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    key_id uuid NOT NULL REFERENCES api_key,
    method text NOT NULL,
    path text NOT NULL,
    status smallint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_by_tenant ON audit (tenant_id, id DESC);

CREATE TABLE corpus (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    name text NOT NULL,
    sha256 text NOT NULL,
    n_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE dictionary (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    spec jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('awaiting_weights', 'ready', 'failed')),
    weights_sha256 text,
    digest text NOT NULL,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    n_bytes bigint NOT NULL DEFAULT 0 -- of weights that were uploaded
);
CREATE INDEX dictionary_by_tenant ON dictionary (tenant_id, created_at DESC, id);

-- One row a feature: what lists sort and filter by. Scores repeat what the label row holds.
CREATE TABLE feature (
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    index integer NOT NULL,
    status text NOT NULL DEFAULT 'unlabelled',
    label text,
    method text,
    density real,
    max_activation real,
    input_success boolean,
    input_value real,
    input_lift real,
    output_success boolean,
    output_value real,
    output_lift real,
    label_id bigint,
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', label)) STORED,
    -- what labels of one text share: sha256 of its bytes, written so that it is immutable to Postgres
    label_sha256 bytea GENERATED ALWAYS AS (sha256(decode(replace(label, '\', '\\'), 'escape'))) STORED,
    PRIMARY KEY (dictionary_id, index)
);
CREATE INDEX feature_by_status ON feature (dictionary_id, status, index);
CREATE INDEX feature_by_density ON feature (dictionary_id, density, index);
CREATE INDEX feature_by_input_value ON feature (dictionary_id, input_value, index);
CREATE INDEX feature_by_output_value ON feature (dictionary_id, output_value, index);
CREATE INDEX feature_by_input_lift ON feature (dictionary_id, input_lift, index);
CREATE INDEX feature_by_output_lift ON feature (dictionary_id, output_lift, index);
CREATE INDEX feature_by_word ON feature USING gin (words) WITH (gin_pending_list_limit = 256) WHERE words IS NOT NULL;
CREATE INDEX feature_by_part ON feature USING gin (label gin_trgm_ops) WITH (gin_pending_list_limit = 256)
    WHERE label IS NOT NULL;
CREATE INDEX feature_by_label ON feature (label_sha256) WHERE label_sha256 IS NOT NULL;

-- The words of a tenant's labels, for words that are not spelt as any of them. Words of labels that are gone stay.
CREATE TABLE label_word (
    tenant_id smallint NOT NULL REFERENCES tenant,
    word text NOT NULL,
    PRIMARY KEY (tenant_id, word)
);
CREATE INDEX label_word_by_trigram ON label_word USING gin (word gin_trgm_ops);

-- The texts of labels as an embedding model reads them: one row a model and text, however many features have it. Models
-- differ in dimensions, so each has an HNSW index of its own, made with its row.
CREATE TABLE embedding_model (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    dimensions integer NOT NULL,
    UNIQUE (name, dimensions)
);

CREATE TABLE embedding (
    model_id integer NOT NULL REFERENCES embedding_model,
    text_sha256 bytea NOT NULL,
    vector halfvec NOT NULL,
    PRIMARY KEY (model_id, text_sha256)
);

-- Tokens by their text, and the strongest ones of each feature's lists: their ids, strongest first.
CREATE TABLE token (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL UNIQUE
);
CREATE INDEX token_by_letters ON token (lower(btrim(text)));

CREATE TABLE feature_token (
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    feature integer NOT NULL,
    fires integer[] NOT NULL,
    promoted integer[] NOT NULL,
    suppressed integer[] NOT NULL,
    raised integer[] NOT NULL,
    lowered integer[] NOT NULL,
    PRIMARY KEY (dictionary_id, feature)
);
CREATE INDEX feature_token_by_token ON feature_token USING gin (fires, promoted, suppressed, raised, lowered);

-- Features whose labels or tokens search does not know yet. Rows are added with what they are about, and only read and
-- deleted after that.
CREATE TABLE search_queue (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    what text NOT NULL CHECK (what IN ('labels', 'tokens')),
    features integer[] NOT NULL
);
CREATE INDEX search_queue_by_what ON search_queue (what, number);

-- Collections: dictionaries that belong together, and the runs over all of them.
CREATE TABLE collection (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX collection_by_tenant ON collection (tenant_id, created_at DESC, id);

CREATE TABLE collection_dictionary (
    collection_id uuid NOT NULL REFERENCES collection ON DELETE CASCADE,
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    position integer NOT NULL,
    PRIMARY KEY (collection_id, dictionary_id)
);
CREATE INDEX collection_dictionary_by_dictionary ON collection_dictionary (dictionary_id);

CREATE TABLE collection_run (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    collection_id uuid NOT NULL REFERENCES collection ON DELETE CASCADE,
    spec jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX collection_run_by_collection ON collection_run (collection_id, created_at DESC, id);

-- Runs of one corpus pass read the corpus together: one of them, at each shard, for all.
-- `ingredients` is what the labels of a run are made from, part by part: a refresh compares it with what they would be
-- made from now.
CREATE TABLE run (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    spec jsonb NOT NULL,
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'paused')),
    note text,
    n_features integer,
    vtime_start double precision NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    llms jsonb, -- what its LLM profiles stood for when it was submitted
    ingredients jsonb,
    collection_run_id uuid REFERENCES collection_run ON DELETE SET NULL,
    corpus_pass uuid
);
CREATE INDEX run_by_tenant ON run (tenant_id, created_at DESC, id);
CREATE INDEX run_by_dictionary ON run (dictionary_id, created_at DESC);
CREATE INDEX run_active ON run (id) WHERE state IN ('queued', 'running');
CREATE INDEX run_unfinished ON run (tenant_id) WHERE state IN ('queued', 'running', 'paused');
CREATE INDEX run_by_collection_run ON run (collection_run_id) WHERE collection_run_id IS NOT NULL;
CREATE INDEX run_by_corpus_pass ON run (corpus_pass, id) WHERE corpus_pass IS NOT NULL;

CREATE TABLE idempotency (
    tenant_id smallint NOT NULL REFERENCES tenant,
    key text NOT NULL,
    body_sha256 text NOT NULL,
    resource_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- The features of a run by position: members of the pool first. Blocks are ranges of positions. `label_id` is the label
-- that the run gave the feature, whatever is current, and whichever run came to the same label since.
CREATE TABLE run_feature (
    run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE,
    position integer NOT NULL,
    feature integer NOT NULL,
    selected boolean NOT NULL,
    pooled boolean NOT NULL,
    label_id bigint,
    PRIMARY KEY (run_id, position),
    UNIQUE (run_id, feature)
);

-- A job that was lost twice is divided. Parts of a block are single features, told apart by corpus_shard from 1 on. A
-- document that is set apart from its corpus shard has the block 1 + its number; in_hand is the one that is being read.
CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE,
    stage text NOT NULL,
    block integer NOT NULL DEFAULT 0,
    corpus_shard integer NOT NULL DEFAULT 0,
    feature_lo integer NOT NULL DEFAULT 0,
    feature_hi integer NOT NULL DEFAULT 0,
    state text NOT NULL CHECK (state IN ('blocked', 'ready', 'leased', 'done', 'dead', 'cancelled')),
    priority smallint NOT NULL DEFAULT 0,
    vtime double precision NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL DEFAULT now(),
    attempt smallint NOT NULL DEFAULT 0,
    lost smallint NOT NULL DEFAULT 0,
    deps_left integer NOT NULL DEFAULT 0,
    owner text,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    units integer NOT NULL DEFAULT 1,
    progress integer NOT NULL DEFAULT 0,
    last_error text,
    result jsonb,
    seconds double precision,
    started_at timestamptz,
    finished_at timestamptz,
    queue text NOT NULL,
    begun boolean NOT NULL DEFAULT false,
    in_hand integer,
    UNIQUE (run_id, stage, block, corpus_shard)
);
CREATE INDEX job_ready ON job (run_id, queue, priority DESC, vtime, id) WHERE state = 'ready';
CREATE INDEX job_unfinished ON job (run_id) WHERE state IN ('blocked', 'ready', 'leased');
CREATE INDEX job_leased ON job (lease_until) WHERE state = 'leased';
CREATE INDEX job_dead ON job (run_id, id) WHERE state = 'dead';

CREATE TABLE job_dependency (
    waits bigint NOT NULL REFERENCES job ON DELETE CASCADE,
    for_job bigint NOT NULL REFERENCES job ON DELETE CASCADE,
    PRIMARY KEY (for_job, waits)
);
CREATE INDEX job_dependency_by_waits ON job_dependency (waits);

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

-- How far each stage of a run is, counted by triggers: a large run has a million jobs. Slot 0 is for jobs that are made and
-- unmade, the others are by session, for those that end: they seldom wait for each other. What is under way is read from
-- the jobs themselves. A row's sum may be below 0, a stage's is not.
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

-- Where a run is deleted, its tallies go with it.
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
-- At the end of the transaction: whoever holds a row of a tally waits for no other lock but those of tallies.
CREATE CONSTRAINT TRIGGER job_ended AFTER UPDATE OF state ON job DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state IN ('done', 'dead') OR NEW.state IN ('done', 'dead')))
    EXECUTE FUNCTION tally_ended_job();

-- Leases that ran out and jobs that were given up, one row each: both are rare.
CREATE TABLE mishap (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('lost', 'dead')),
    stage text NOT NULL,
    run_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Which processes there are, as each says of itself every few seconds, and what it sees of what all must share: the store
-- of blobs by its id, the secret by a digest, the database's clock less its own.
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

-- Results that are files: partial and merged exemplars, firing thresholds. Only this pointer commits.
CREATE TABLE artifact (
    recipe text PRIMARY KEY,
    sha256 text NOT NULL,
    n_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What a piece of evidence was made from, and by which process: one row for all that were made together.
CREATE TABLE provenance (
    document jsonb NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
);

-- A corpus as one tokenizer reads it, in contexts of one length, and the tokens of those contexts that exemplars refer
-- to: packed, each once for all features and dictionaries. They never change.
CREATE TABLE reading (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recipe text NOT NULL UNIQUE
);

CREATE TABLE context (
    reading_id integer NOT NULL REFERENCES reading,
    number bigint NOT NULL,
    tokens bytea NOT NULL,
    PRIMARY KEY (reading_id, number)
);
ALTER TABLE context ALTER COLUMN tokens SET STORAGE EXTERNAL;

-- Packed evidence: one compressed blob a feature and kind. That of exemplars refers to the contexts of a reading.
CREATE TABLE evidence (
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    feature integer NOT NULL,
    kind text NOT NULL,
    recipe text NOT NULL,
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    provenance_id bigint NOT NULL REFERENCES provenance,
    reading_id integer REFERENCES reading,
    PRIMARY KEY (dictionary_id, feature, kind, recipe)
);
ALTER TABLE evidence ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE description (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    feature integer NOT NULL,
    method text NOT NULL,
    recipe text NOT NULL,
    status text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (dictionary_id, feature, method, recipe)
);

CREATE TABLE sentences (
    description_id bigint NOT NULL REFERENCES description ON DELETE CASCADE,
    recipe text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (description_id, recipe)
);

CREATE TABLE score (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    feature integer NOT NULL,
    kind text NOT NULL,
    description_id bigint REFERENCES description ON DELETE CASCADE,
    recipe text NOT NULL,
    status text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (dictionary_id, feature, kind, description_id, recipe)
);
CREATE INDEX score_by_description ON score (description_id);

CREATE TABLE label (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dictionary_id uuid NOT NULL REFERENCES dictionary ON DELETE CASCADE,
    feature integer NOT NULL,
    run_id uuid REFERENCES run ON DELETE SET NULL,
    author text NOT NULL DEFAULT 'glossarium',
    recipe text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (dictionary_id, feature, author, recipe)
);
CREATE INDEX label_by_run ON label (run_id);

-- The labels that a run gave the features it selected, counted block by block as they are published.
CREATE TABLE label_tally (
    run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE,
    method text,
    status text NOT NULL,
    slot smallint NOT NULL,
    n bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (run_id, method, status, slot)
) WITH (fillfactor = 50);

-- What people try on a subject while they wait. One that is not over by expires_at never will be: it counts as expired.
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

-- Validated LLM replies, per tenant, by the sha256 of everything that was asked.
CREATE TABLE completion (
    tenant_id smallint NOT NULL REFERENCES tenant,
    request_sha256 text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, request_sha256)
);

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
CREATE INDEX call_by_time ON call (tenant_id, created_at);

-- What all LLM calls came to, for the operator's metrics: counted where a call is entered, and never from the ledger, which
-- has millions of rows. `bucket` is that of its latency; `slot` spreads what many sessions count at once over several rows.
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
    dollars double precision NOT NULL, -- of the calls whose price was known
    unpriced bigint NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (profile, purpose, status, from_cache, bucket, slot)
) WITH (fillfactor = 50);

-- What the calls of each run came to, counted with those above. No foreign key, for the reasons of the ledger.
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
    dollars double precision NOT NULL, -- as above
    unpriced bigint NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (run_id, purpose, status, slot)
) WITH (fillfactor = 50);

-- What the LLM calls of a run cost and may still cost, and the most that they may; dollars are null once a price was not
-- known. One small row a run, changed before and after each HTTP request: its page has room for the old versions.
CREATE TABLE spending (
    run_id uuid PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    most_nanodollars bigint,
    most_tokens bigint,
    spent_nanodollars bigint DEFAULT 0,
    spent_tokens bigint NOT NULL DEFAULT 0,
    reserved_nanodollars bigint DEFAULT 0,
    reserved_tokens bigint NOT NULL DEFAULT 0,
    needs_nanodollars bigint NOT NULL DEFAULT 0, -- the reservation that was refused and paused the run
    needs_tokens bigint NOT NULL DEFAULT 0,
    n_settled bigint NOT NULL DEFAULT 0,
    n_open bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);

-- What a run found, made once by its last job.
CREATE TABLE run_report (
    run_id uuid PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Webhooks, and what they are owed. A webhook is leased by whoever sends for it: one request at a time to each. Its secret is
-- not here: it is derived. No foreign key to what a delivery tells of, which may be deleted meanwhile.
CREATE TABLE webhook (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    url text NOT NULL,
    events text[] NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    last_error text,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX webhook_by_tenant ON webhook (tenant_id, created_at DESC, id);

CREATE TABLE delivery (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    webhook_id uuid NOT NULL REFERENCES webhook ON DELETE CASCADE,
    event text NOT NULL,
    data jsonb,
    state text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'delivered', 'failed')),
    attempts smallint NOT NULL DEFAULT 0,
    last_error text,
    due_at timestamptz DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz
);
CREATE INDEX delivery_by_webhook ON delivery (webhook_id, created_at DESC, id);
CREATE INDEX delivery_due ON delivery (webhook_id, due_at) WHERE state = 'due';

-- Schedules, what each of their slots led to, and the features that a refresh was about, before and after.
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
