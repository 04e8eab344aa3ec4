-- Lists of features that have a part of a label, without a look at every label.
CREATE INDEX feature_by_part ON feature USING gin (label gin_trgm_ops) WITH (gin_pending_list_limit = 256)
    WHERE label IS NOT NULL;
