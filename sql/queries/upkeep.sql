-- name: bound_transaction
-- For this transaction alone: nothing may outlast it, because a pooler may hand the session to somebody else.
-- $1 milliseconds for a statement, $2 milliseconds for a lock. What is committed is on disk.
SELECT set_config('statement_timeout', $1, true),
       set_config('lock_timeout', $2, true),
       set_config('synchronous_commit', 'on', true);

-- name: months_due
-- First days of the months (UTC) that need a partition: this one, the next $1, and those with rows in the default one.
SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month')::date AS day, false AS stray
FROM generate_series(0, $1::integer) AS ahead
UNION
SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC')::date, true FROM usage_logs_default
ORDER BY day, stray;

-- name: make_partition
SELECT make_usage_partition($1::date);

-- name: lock_migrations
-- One at a time; released with the transaction, so that it holds behind a transaction-mode pooler too.
SELECT pg_advisory_xact_lock(hashtext('gateway_migrations'));

-- name: has_migrations
SELECT to_regclass('gateway_migrations') IS NOT NULL;

-- name: applied_migrations
SELECT name, checksum FROM gateway_migrations ORDER BY name;

-- name: record_migration
INSERT INTO gateway_migrations (name, checksum) VALUES ($1, $2);
