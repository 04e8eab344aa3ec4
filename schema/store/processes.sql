-- name: tell!
INSERT INTO process (name, kind, release, blobs, secret, skew_s, free_bytes, started_at)
VALUES (:name, :kind, :release, :blobs, :secret, :skew_s, :free_bytes, clock_timestamp())
ON CONFLICT (name, kind) DO UPDATE
SET release = excluded.release, blobs = excluded.blobs, secret = excluded.secret,
    skew_s = excluded.skew_s, free_bytes = excluded.free_bytes, seen_at = clock_timestamp(),
    started_at = CASE WHEN :fresh THEN excluded.started_at ELSE process.started_at END;

-- name: forget!
DELETE FROM process WHERE seen_at < clock_timestamp() - interval '1 day';

-- name: clock$
SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision);

-- name: seen
SELECT name, kind, release, blobs, secret, skew_s, free_bytes,
       CAST(extract(epoch FROM clock_timestamp() - started_at) AS double precision),
       CAST(extract(epoch FROM clock_timestamp() - seen_at) AS double precision)
FROM process
ORDER BY kind, name;
