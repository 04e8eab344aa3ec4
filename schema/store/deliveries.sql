-- name: tell_of_run!
-- A webhook that is being deleted is left out: its key is shared until our transaction ends.
INSERT INTO delivery (webhook_id, event, data)
SELECT webhook.id, CAST(:event AS text),
       jsonb_build_object(
           'run_id', run.id, 'dictionary_id', run.dictionary_id, 'dictionary', dictionary.spec ->> 'name',
           'state', run.state, 'note', run.note, 'n_features', run.n_features, 'created_at', run.created_at,
           'finished_at', run.finished_at)
FROM run JOIN dictionary ON dictionary.id = run.dictionary_id JOIN webhook ON webhook.tenant_id = run.tenant_id
WHERE run.id = :run_id AND CAST(:event AS text) = ANY(webhook.events)
FOR KEY SHARE OF webhook;

-- name: tell_of_refresh!
INSERT INTO delivery (webhook_id, event, data)
SELECT webhook.id, 'refresh.diff',
       jsonb_build_object(
           'schedule_id', schedule.id, 'schedule', schedule.spec ->> 'name', 'refresh_id', refresh.id,
           'dictionary_id', schedule.dictionary_id, 'run_id', refresh.run_id, 'slot', refresh.slot,
           'state', refresh.state, 'note', refresh.note, 'n_features', refresh.n_features, 'reasons', refresh.reasons,
           'changes', refresh.changes)
FROM refresh JOIN schedule ON schedule.id = refresh.schedule_id JOIN webhook ON webhook.tenant_id = schedule.tenant_id
WHERE refresh.id = :refresh_id AND 'refresh.diff' = ANY(webhook.events)
FOR KEY SHARE OF webhook;

-- name: owe_test!
INSERT INTO delivery (id, webhook_id, event) VALUES (:id, :webhook_id, 'test');

-- name: claim
-- Of each webhook that nobody sends for, the delivery that is due longest; tests, which somebody waits for, first.
WITH first AS (
    SELECT webhook.id AS webhook_id, next.id
    FROM webhook CROSS JOIN LATERAL (
        SELECT delivery.id, delivery.due_at FROM delivery
        WHERE delivery.webhook_id = webhook.id AND delivery.state = 'due' AND delivery.due_at <= clock_timestamp()
        ORDER BY delivery.event = 'test' DESC, delivery.due_at, delivery.id
        LIMIT 1
    ) AS next
    WHERE webhook.state = 'active' AND (webhook.lease_until IS NULL OR webhook.lease_until < clock_timestamp())
    ORDER BY next.due_at
    LIMIT :most
    FOR NO KEY UPDATE OF webhook SKIP LOCKED
), leased AS (
    UPDATE webhook SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
    FROM first WHERE webhook.id = first.webhook_id
    RETURNING webhook.id, webhook.url
)
UPDATE delivery SET attempts = delivery.attempts + 1
FROM first JOIN leased ON leased.id = first.webhook_id
WHERE delivery.id = first.id AND delivery.state = 'due'
RETURNING delivery.id, delivery.event, delivery.created_at, delivery.data, delivery.webhook_id, leased.url, delivery.attempts;

-- name: delivered!
UPDATE delivery SET state = 'delivered', delivered_at = clock_timestamp(), due_at = NULL, last_error = NULL
WHERE id = :id AND attempts = :attempt AND state = 'due';

-- name: retry!
UPDATE delivery SET last_error = :error, due_at = clock_timestamp() + make_interval(secs => :delay_s)
WHERE id = :id AND attempts = :attempt AND state = 'due';

-- name: give_up!
UPDATE delivery SET state = 'failed', last_error = :error, due_at = NULL
WHERE id = :id AND attempts = :attempt AND state = 'due';

-- name: release!
UPDATE webhook
SET lease_until = NULL, last_error = :error,
    state = CASE WHEN :disable AND state = 'active' THEN 'disabled' ELSE state END
WHERE id = :webhook_id;

-- name: forget!
DELETE FROM delivery WHERE created_at < clock_timestamp() - make_interval(days => :days);

-- name: get^
SELECT id, event, created_at, data, webhook_id, state, attempts, last_error, due_at, delivered_at
FROM delivery
WHERE webhook_id = :webhook_id AND id = :id;

-- name: page
SELECT id, event, created_at, data, webhook_id, state, attempts, last_error, due_at, delivered_at
FROM delivery
WHERE webhook_id = :webhook_id
  AND (CAST(:state AS text) IS NULL OR state = :state)
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;
