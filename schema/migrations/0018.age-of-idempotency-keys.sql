-- Keys of long ago are forgotten, without a look at every key.
CREATE INDEX idempotency_by_age ON idempotency (created_at);
