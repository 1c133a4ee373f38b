-- name: bound_transaction
-- For this transaction alone: nothing may outlast it, because a pooler may hand the session to somebody else.
-- $1 milliseconds for a statement, $2 milliseconds for a lock. What is committed is on disk.
SELECT set_config('statement_timeout', $1, true),
       set_config('lock_timeout', $2, true),
       set_config('synchronous_commit', 'on', true);

-- name: months_due
-- First days of the months (UTC) that need partitions whatever there is: this one and the next $1.
SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month')::date AS day
FROM generate_series(0, $1::integer) AS ahead
ORDER BY day;

-- name: stray_months
-- First days of the months (UTC) of which default partitions hold rows, and how many.
SELECT date_trunc('month', at AT TIME ZONE 'UTC')::date AS day, count(*) AS rows
FROM (SELECT created_at AS at FROM usage_logs_default
      UNION ALL SELECT created_at FROM usage_attempts_default
      UNION ALL SELECT hour FROM usage_hourly_default
      UNION ALL SELECT hour FROM usage_timings_default) AS held
GROUP BY 1
ORDER BY 1;

-- name: make_partition
SELECT make_usage_partition($1::date);

-- name: drop_partitions
-- $2: since when the oldest event waits that is no row yet, as far as is known; NULL: none.
SELECT drop_usage_partitions($1::integer, $2::timestamptz);

-- name: set_default_limits
-- For views of those near their limit. Written only where it differs.
INSERT INTO default_limits AS now_said (limits) VALUES ($1::jsonb)
ON CONFLICT (only_row) DO UPDATE SET limits = excluded.limits, updated_at = clock_timestamp()
WHERE now_said.limits <> excluded.limits;

-- name: lock_migrations
-- One at a time; released with the transaction, so that it holds behind a transaction-mode pooler too.
SELECT pg_advisory_xact_lock(hashtext('gateway_migrations'));

-- name: has_migrations
SELECT to_regclass('gateway_migrations') IS NOT NULL;

-- name: applied_migrations
SELECT name, checksum FROM gateway_migrations ORDER BY name;

-- name: record_migration
INSERT INTO gateway_migrations (name, checksum) VALUES ($1, $2);
