-- name: next_due^
SELECT refresh.id, refresh.schedule_id, schedule.tenant_id, schedule.spec
FROM refresh JOIN schedule ON schedule.id = refresh.schedule_id
WHERE refresh.state = 'due' AND refresh.id <> ALL(CAST(:but AS uuid[]))
ORDER BY refresh.fired_at
LIMIT 1
FOR UPDATE OF refresh SKIP LOCKED;

-- name: count_looked_after^
SELECT count(*) FROM feature
WHERE dictionary_id = :dictionary_id
  AND (CAST(:indices AS integer[]) IS NULL OR index = ANY(CAST(:indices AS integer[])))
  AND (NOT :alive OR density IS NULL OR density > 0);

-- name: put_stale!
WITH tried AS (
    SELECT refresh_feature.feature
    FROM refresh JOIN refresh_feature ON refresh_feature.refresh_id = refresh.id
    WHERE refresh.schedule_id = :schedule_id AND refresh.state = 'done' AND refresh.ingredients = :ingredients
      AND refresh_feature.feature >= :lo AND refresh_feature.feature < :hi
    GROUP BY refresh_feature.feature
    HAVING count(*) >= :tries
), known AS (
    SELECT feature.index, feature.label, feature.status, feature.method, feature.input_lift, feature.output_lift,
           label.id AS label_id, run.ingredients,
           coalesce(feature.input_lift < CAST(:input_lift_below AS float8), CAST(:input_lift_below AS float8) IS NOT NULL)
               OR coalesce(feature.output_lift < CAST(:output_lift_below AS float8),
                           CAST(:output_lift_below AS float8) IS NOT NULL) AS is_low,
           coalesce(label.created_at < clock_timestamp() - CAST(:older_than_days AS float8) * interval '1 day', false) AS is_old
    FROM feature
    LEFT JOIN label ON label.id = feature.label_id
    LEFT JOIN run ON run.id = label.run_id
    WHERE feature.dictionary_id = :dictionary_id AND feature.index >= :lo AND feature.index < :hi
      AND (CAST(:indices AS integer[]) IS NULL OR feature.index = ANY(CAST(:indices AS integer[])))
      AND (NOT :alive OR feature.density IS NULL OR feature.density > 0)
      AND (label.author IS NULL OR label.author = :machine)
      AND feature.index NOT IN (SELECT feature FROM tried)
), judged AS (
    SELECT known.*,
        CASE
            WHEN label_id IS NULL THEN CASE WHEN :unlabelled THEN 'unlabelled' END
            WHEN :failed AND status = ANY(CAST(:retried AS text[])) THEN 'failed'
            WHEN ingredients IS NOT DISTINCT FROM CAST(:ingredients AS jsonb) THEN NULL
            WHEN :changed THEN (
                SELECT part FROM unnest(ARRAY['evidence', 'prompt', 'model', 'procedure']) WITH ORDINALITY AS parts (part, place)
                WHERE ingredients -> part IS DISTINCT FROM CAST(:ingredients AS jsonb) -> part
                ORDER BY place LIMIT 1)
            WHEN is_low THEN 'low_score'
            WHEN is_old THEN 'old'
        END AS reason
    FROM known
)
INSERT INTO refresh_feature (refresh_id, feature, reason, before)
SELECT :refresh_id, index, reason,
       jsonb_build_object('label', label, 'status', status, 'method', method, 'input_lift', input_lift,
                          'output_lift', output_lift)
FROM judged
WHERE reason IS NOT NULL;

-- name: stale_features
SELECT feature FROM refresh_feature
WHERE refresh_id = :refresh_id
ORDER BY array_position(CAST(:reasons AS text[]), reason), feature;

-- name: keep!
DELETE FROM refresh_feature WHERE refresh_id = :refresh_id AND feature <> ALL(CAST(:features AS integer[]));

-- name: open_run!
UPDATE refresh
SET state = 'running', run_id = :run_id, note = NULL, n_stale = :n_stale, ingredients = :ingredients,
    n_features = counted.n, reasons = counted.reasons
FROM (
    SELECT coalesce(sum(n), 0) AS n, coalesce(jsonb_object_agg(reason, n), '{}') AS reasons
    FROM (SELECT reason, count(*) AS n FROM refresh_feature WHERE refresh_id = :id GROUP BY reason) AS by_reason
) AS counted
WHERE id = :id;

-- name: end!
UPDATE refresh
SET state = :state, note = :note, finished_at = clock_timestamp(),
    n_stale = CASE WHEN :state = 'nothing' THEN 0 END, n_features = CASE WHEN :state = 'nothing' THEN 0 END
WHERE id = :id AND state = 'due';

-- name: note_run!
UPDATE refresh SET note = :note WHERE run_id = :run_id AND state = 'running';

-- name: wait!
UPDATE refresh SET note = :note WHERE id = :id AND state = 'due' AND note IS DISTINCT FROM :note;

-- name: halted
-- Runs that paused by themselves, at their budget (a person's pause has no note), and whose schedule has come to its next slot.
SELECT run.tenant_id, run.id, run.note
FROM refresh JOIN run ON run.id = refresh.run_id
WHERE refresh.state = 'running' AND run.state = 'paused' AND run.note IS NOT NULL
  AND EXISTS (SELECT 1 FROM refresh AS later
              WHERE later.schedule_id = refresh.schedule_id AND later.slot > refresh.slot AND later.state = 'due')
FOR UPDATE OF refresh SKIP LOCKED;

-- name: finished
SELECT refresh.id, CASE WHEN run.id IS NULL THEN 'cancelled' ELSE run.state END,
       CASE WHEN run.id IS NULL THEN 'its run was deleted' ELSE coalesce(run.note, refresh.note) END
FROM refresh LEFT JOIN run ON run.id = refresh.run_id
WHERE refresh.state = 'running' AND (run.id IS NULL OR run.state IN ('done', 'failed', 'cancelled'))
ORDER BY refresh.fired_at
FOR UPDATE OF refresh SKIP LOCKED;

-- name: last_feature$
SELECT coalesce(max(feature), -1) FROM refresh_feature WHERE refresh_id = :refresh_id;

-- name: compare!
UPDATE refresh_feature
SET after = now.state,
    change = CASE
        WHEN now.author <> :machine THEN 'edited'
        WHEN before ->> 'label' IS NULL AND now.state ->> 'label' IS NOT NULL THEN 'new'
        WHEN before ->> 'label' IS NOT NULL AND now.state ->> 'label' IS NULL THEN 'lost'
        WHEN before ->> 'label' IS DISTINCT FROM now.state ->> 'label' THEN 'changed'
        WHEN before <> now.state THEN 'rescored'
        ELSE 'same'
    END
FROM (
    SELECT feature.index, label.author,
           jsonb_build_object('label', feature.label, 'status', feature.status, 'method', feature.method,
                              'input_lift', feature.input_lift, 'output_lift', feature.output_lift) AS state
    FROM refresh JOIN schedule ON schedule.id = refresh.schedule_id
    JOIN feature ON feature.dictionary_id = schedule.dictionary_id
    LEFT JOIN label ON label.id = feature.label_id
    WHERE refresh.id = :refresh_id AND feature.index >= :lo AND feature.index < :hi
) AS now
WHERE refresh_feature.refresh_id = :refresh_id AND refresh_feature.feature = now.index;

-- name: close!
UPDATE refresh
SET state = :state, note = :note, finished_at = clock_timestamp(),
    changes = (SELECT coalesce(jsonb_object_agg(change, n), '{}')
               FROM (SELECT change, count(*) AS n FROM refresh_feature WHERE refresh_id = :id GROUP BY change) AS by_change)
WHERE id = :id;

-- name: get^
SELECT refresh.id, schedule_id, slot, state, run_id, note, n_missed, n_stale, n_features, reasons, changes, fired_at,
       finished_at
FROM refresh JOIN schedule ON schedule.id = refresh.schedule_id
WHERE schedule.tenant_id = :tenant_id AND refresh.schedule_id = :schedule_id AND refresh.id = :id;

-- name: page
SELECT id, schedule_id, slot, state, run_id, note, n_missed, n_stale, n_features, reasons, changes, fired_at, finished_at
FROM refresh
WHERE schedule_id = :schedule_id AND (CAST(:after AS timestamptz) IS NULL OR slot < :after)
ORDER BY slot DESC
LIMIT :most;

-- name: latest
SELECT newest.*
FROM unnest(CAST(:schedule_ids AS uuid[])) AS wanted (schedule_id), LATERAL (
    SELECT id, schedule_id, slot, state, run_id, note, n_missed, n_stale, n_features, reasons, changes, fired_at, finished_at
    FROM refresh
    WHERE refresh.schedule_id = wanted.schedule_id
    ORDER BY slot DESC
    LIMIT 1
) AS newest;

-- name: diff
SELECT feature, reason, change, before, after
FROM refresh_feature
WHERE refresh_id = :id AND feature > :after AND (change = ANY(CAST(:changes AS text[])) OR :every AND change IS NULL)
ORDER BY feature
LIMIT :most;
