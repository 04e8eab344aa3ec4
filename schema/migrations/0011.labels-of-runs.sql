-- Which label each run gave a feature: a label's row names only the last run that came to it. What runs before this found
-- is taken from their own rows; where a later run did the same since, from the newest.
ALTER TABLE run_feature ADD COLUMN label_id bigint;
UPDATE run_feature SET label_id = (
    SELECT label.id
    FROM run JOIN label ON label.dictionary_id = run.dictionary_id AND label.feature = run_feature.feature
    WHERE run.id = run_feature.run_id AND label.author = 'glossarium' AND (label.run_id = run.id OR run.state = 'done')
    ORDER BY label.run_id IS NOT DISTINCT FROM run.id DESC, label.created_at DESC, label.id DESC
    LIMIT 1)
WHERE selected;

-- Lists by value and by status; the ledger by time.
CREATE INDEX feature_by_input_value ON feature (dictionary_id, input_value, index);
CREATE INDEX feature_by_output_value ON feature (dictionary_id, output_value, index);
CREATE INDEX feature_by_status ON feature (dictionary_id, status, index);
CREATE INDEX call_by_time ON call (tenant_id, created_at);
