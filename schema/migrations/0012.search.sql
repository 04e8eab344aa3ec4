-- Search: labels by word and by meaning, features by token.

-- `label_sha256` is what labels of one text share: sha256 of its bytes, written so that it is immutable to Postgres.
ALTER TABLE feature
    ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('english', label)) STORED,
    ADD COLUMN label_sha256 bytea GENERATED ALWAYS AS (sha256(decode(replace(label, '\', '\\'), 'escape'))) STORED;
CREATE INDEX feature_by_word ON feature USING gin (words) WITH (gin_pending_list_limit = 256) WHERE words IS NOT NULL;
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

-- Evidence that is there. Labels are added when the first embedding model is known.
INSERT INTO search_queue (dictionary_id, what, features)
SELECT dictionary_id, 'tokens', array_agg(DISTINCT feature)
FROM evidence
WHERE kind IN ('exemplars', 'vocabulary', 'token_change')
GROUP BY dictionary_id, feature / 256;
