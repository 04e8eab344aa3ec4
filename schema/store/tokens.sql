-- name: known
SELECT text, id FROM token WHERE text = ANY(CAST(:texts AS text[]));

-- name: add!
INSERT INTO token (text) SELECT unnest(CAST(:texts AS text[])) ON CONFLICT (text) DO NOTHING;

-- name: put!
INSERT INTO feature_token (dictionary_id, feature, fires, promoted, suppressed, raised, lowered)
SELECT :dictionary_id, feature, CAST(fires AS integer[]), CAST(promoted AS integer[]), CAST(suppressed AS integer[]),
       CAST(raised AS integer[]), CAST(lowered AS integer[])
FROM unnest(CAST(:features AS integer[]), CAST(:fires AS text[]), CAST(:promoted AS text[]),
            CAST(:suppressed AS text[]), CAST(:raised AS text[]), CAST(:lowered AS text[]))
     AS new (feature, fires, promoted, suppressed, raised, lowered)
ON CONFLICT (dictionary_id, feature) DO UPDATE
SET fires = excluded.fires, promoted = excluded.promoted, suppressed = excluded.suppressed, raised = excluded.raised,
    lowered = excluded.lowered;

-- name: id$
SELECT id FROM token WHERE text = :text;

-- name: near
SELECT text FROM token WHERE lower(btrim(text)) = lower(btrim(:text)) AND text <> :text ORDER BY id LIMIT 10;

-- name: find
-- {first} and {second} are columns of feature_token from a fixed list. A token that a great many features have is ranked
-- among as many of them as are looked at.
SELECT dictionary_id, feature, first_rank, second_rank
FROM (
    SELECT dictionary_id, feature, array_position({first}, :token) AS first_rank,
           array_position({second}, :token) AS second_rank
    FROM feature_token
    WHERE ({first} @> ARRAY[CAST(:token AS integer)] OR {second} @> ARRAY[CAST(:token AS integer)])
      AND dictionary_id = ANY(CAST(:dictionaries AS uuid[]))
    LIMIT :most_ranked
) AS found
ORDER BY least(first_rank, second_rank), dictionary_id, feature
OFFSET :skip
LIMIT :most;
