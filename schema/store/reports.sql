-- name: put!
INSERT INTO run_report (run_id, body) VALUES (:run_id, :body)
ON CONFLICT (run_id) DO UPDATE SET body = excluded.body, created_at = excluded.created_at;

-- name: get^
SELECT run_report.body, run_report.created_at
FROM run JOIN run_report ON run_report.run_id = run.id
WHERE run.tenant_id = :tenant_id AND run.id = :run_id;

-- name: why_absent^
SELECT run.state, job.state, job.last_error
FROM run LEFT JOIN job ON job.run_id = run.id AND job.stage = :stage
WHERE run.tenant_id = :tenant_id AND run.id = :run_id;

-- name: described
SELECT id, method, status FROM description WHERE id = ANY(:ids);

-- name: n_dead$
SELECT count(*)
FROM run JOIN run_feature ON run_feature.run_id = run.id AND run_feature.selected
JOIN feature ON feature.dictionary_id = run.dictionary_id AND feature.index = run_feature.feature
WHERE run.id = :run_id AND feature.density = 0;
