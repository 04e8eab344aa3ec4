-- Exemplars refer to contexts, whose tokens are kept once for all features. What was packed before can't be read any more:
-- it goes, and the next run makes it again; exemplars without reading the corpus, as their merged blobs stay.
DELETE FROM evidence;
DELETE FROM provenance;

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

ALTER TABLE evidence ADD COLUMN reading_id integer REFERENCES reading;
