-- name: get^
SELECT body FROM completion WHERE tenant_id = :tenant_id AND request_sha256 = :request_sha256;

-- name: put!
INSERT INTO completion (tenant_id, request_sha256, body) VALUES (:tenant_id, :request_sha256, :body)
ON CONFLICT DO NOTHING;
