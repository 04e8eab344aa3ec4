-- name: insert
INSERT INTO schedule (id, tenant_id, dictionary_id, spec)
VALUES (:id, :tenant_id, :dictionary_id, :spec)
RETURNING id, spec, paused, created_at;

-- name: get
SELECT id, spec, paused, created_at FROM schedule WHERE tenant_id = :tenant_id AND id = :id;

-- name: lock
SELECT id, spec, paused, created_at FROM schedule WHERE tenant_id = :tenant_id AND id = :id FOR UPDATE;

-- name: page
SELECT id, spec, paused, created_at
FROM schedule
WHERE tenant_id = :tenant_id
  AND (CAST(:before AS timestamptz) IS NULL
       OR created_at <= :before AND (created_at < :before OR id > CAST(:after_id AS uuid)))
ORDER BY created_at DESC, id
LIMIT :most;

-- name: update
UPDATE schedule
SET spec = :spec, paused = :paused, since = CASE WHEN :anew THEN clock_timestamp() ELSE since END
WHERE id = :id
RETURNING id, spec, paused, created_at;

-- name: delete!
DELETE FROM schedule WHERE tenant_id = :tenant_id AND id = :id;

-- name: now$
SELECT clock_timestamp();

-- name: active
SELECT id, spec ->> 'cron', spec ->> 'time_zone', since FROM schedule WHERE NOT paused ORDER BY id;

-- name: slot_before$
SELECT max(slot) FROM refresh WHERE schedule_id = :schedule_id AND slot < :slot;

-- name: fire$
-- One statement: of two at once the second waits for the first, and then finds the slot taken. A conflict with a slot that
-- was fired before takes no number and leaves no dead row.
INSERT INTO refresh (id, schedule_id, slot, n_missed, state, note, finished_at)
SELECT :id, :schedule_id, :slot, :n_missed,
       CASE WHEN earlier.slot IS NULL THEN 'due' ELSE 'skipped' END,
       'the refresh of ' || to_char(earlier.slot, 'YYYY-MM-DD HH24:MI "UTC"') || ' is not over',
       CASE WHEN earlier.slot IS NULL THEN NULL ELSE clock_timestamp() END
FROM (VALUES (1)) AS one LEFT JOIN LATERAL (
    SELECT refresh.slot FROM refresh LEFT JOIN run ON run.id = refresh.run_id
    WHERE refresh.schedule_id = :schedule_id AND refresh.state IN ('due', 'running') AND refresh.slot <> :slot
      AND NOT coalesce(run.state = 'paused' AND run.note IS NOT NULL, false) -- its budget is used up
    LIMIT 1
) AS earlier ON true
ON CONFLICT (schedule_id, slot) DO NOTHING
RETURNING id;
