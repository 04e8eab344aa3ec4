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
ALTER TABLE run ADD COLUMN collection_run_id uuid REFERENCES collection_run ON DELETE SET NULL;
ALTER TABLE run ADD COLUMN corpus_pass uuid;
CREATE INDEX run_by_collection_run ON run (collection_run_id) WHERE collection_run_id IS NOT NULL;
CREATE INDEX run_by_corpus_pass ON run (corpus_pass, id) WHERE corpus_pass IS NOT NULL;
