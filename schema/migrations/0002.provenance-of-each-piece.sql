-- Blocks of one recipe may be computed by different processes: every piece of evidence names its own provenance.
ALTER TABLE evidence DROP CONSTRAINT evidence_recipe_fkey;
ALTER TABLE provenance DROP CONSTRAINT provenance_pkey;
ALTER TABLE provenance ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
ALTER TABLE evidence ADD COLUMN provenance_id bigint REFERENCES provenance;
UPDATE evidence SET provenance_id = provenance.id FROM provenance WHERE provenance.recipe = evidence.recipe;
ALTER TABLE evidence ALTER COLUMN provenance_id SET NOT NULL;
ALTER TABLE provenance DROP COLUMN recipe;
