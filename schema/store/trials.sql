-- name: n_unfinished$
SELECT count(*) FROM trial
WHERE tenant_id = :tenant_id AND state IN ('waiting', 'running') AND expires_at > clock_timestamp();

-- name: insert!
INSERT INTO trial (id, tenant_id, dictionary_id, kind, feature, spec, created_at, expires_at)
SELECT :id, :tenant_id, :dictionary_id, :kind, CAST(:feature AS integer), CAST(:spec AS jsonb),
       clock.now, clock.now + make_interval(secs => :timeout_s)
FROM (SELECT clock_timestamp() AS now) AS clock;

-- name: get^
SELECT id, dictionary_id, kind, feature, spec,
       CASE WHEN state IN ('waiting', 'running') AND expires_at <= clock_timestamp() THEN 'expired' ELSE state END,
       error, reason, created_at, started_at, finished_at, expires_at, result
FROM trial
WHERE tenant_id = :tenant_id AND id = :id;

-- name: is_over$
SELECT state NOT IN ('waiting', 'running') OR expires_at <= clock_timestamp() FROM trial WHERE id = :id;

-- name: claim^
-- Beside the job of a run only what needs the same subject: another one would not fit into memory as well.
WITH loaded AS (
    SELECT dictionary.spec ->> 'subject' AS subject, dictionary.spec ->> 'revision' AS revision
    FROM run JOIN dictionary ON dictionary.id = run.dictionary_id
    WHERE run.id = :beside
), candidate AS (
    SELECT trial.id FROM trial JOIN dictionary ON dictionary.id = trial.dictionary_id
    WHERE trial.state = 'waiting' AND trial.expires_at > clock_timestamp()
      AND (CAST(:beside AS uuid) IS NULL OR EXISTS (
            SELECT FROM loaded
            WHERE loaded.subject = dictionary.spec ->> 'subject'
              AND loaded.revision IS NOT DISTINCT FROM dictionary.spec ->> 'revision'))
    ORDER BY trial.created_at
    LIMIT 1
    FOR UPDATE OF trial SKIP LOCKED
)
UPDATE trial SET state = 'running', started_at = clock_timestamp()
FROM candidate, dictionary
WHERE trial.id = candidate.id AND dictionary.id = trial.dictionary_id
RETURNING trial.id, trial.kind, trial.feature, trial.spec, dictionary.id, dictionary.spec, dictionary.state,
          dictionary.weights_sha256, dictionary.digest, dictionary.error, dictionary.created_at;

-- name: finish^
UPDATE trial SET state = 'done', result = :result, finished_at = clock_timestamp()
WHERE id = :id AND state = 'running' AND expires_at > clock_timestamp()
RETURNING id;

-- name: fail!
UPDATE trial SET state = 'failed', error = :error, reason = :reason, finished_at = clock_timestamp()
WHERE id = :id AND state = 'running' AND expires_at > clock_timestamp();

-- name: cancel!
UPDATE trial SET state = 'cancelled', finished_at = clock_timestamp()
WHERE tenant_id = :tenant_id AND id = :id AND state IN ('waiting', 'running') AND expires_at > clock_timestamp();

-- name: any_waiting$
SELECT EXISTS (SELECT FROM trial WHERE state = 'waiting' AND expires_at > clock_timestamp());

-- name: delete_old!
DELETE FROM trial
WHERE id IN (
    SELECT id FROM trial
    WHERE created_at < clock_timestamp() - make_interval(secs => :kept_s) ORDER BY created_at LIMIT :most
);
