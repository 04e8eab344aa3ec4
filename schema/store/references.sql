-- name: all_blobs
SELECT weights_sha256 AS sha256 FROM dictionary WHERE weights_sha256 IS NOT NULL AND state <> 'awaiting_weights'
UNION SELECT sha256 FROM corpus
UNION SELECT sha256 FROM artifact
ORDER BY sha256;
