-- Claims look at the first ready jobs of each active run and queue; losses are judged by whether work had begun.
ALTER TABLE job ADD COLUMN queue text;
UPDATE job SET queue = CASE
    WHEN stage IN ('ingest', 'exemplars', 'merge', 'steering', 'activate') THEN 'subject'
    WHEN stage IN ('publish', 'report') THEN 'control'
    ELSE 'llm' END;
ALTER TABLE job ALTER COLUMN queue SET NOT NULL;
ALTER TABLE job ADD COLUMN begun boolean NOT NULL DEFAULT false;
ALTER TABLE job ADD COLUMN in_hand integer;
DROP INDEX job_ready;
CREATE INDEX job_ready ON job (run_id, queue, priority DESC, vtime, id) WHERE state = 'ready';
CREATE INDEX job_unfinished ON job (run_id) WHERE state IN ('blocked', 'ready', 'leased');
CREATE INDEX run_active ON run (id) WHERE state IN ('queued', 'running');
