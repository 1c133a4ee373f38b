-- Usage that adds up and can be queried: what a row says of waiting, speech and tries; rollups that are raised with the
-- rows; views for dashboards; partitions that are made and dropped; roles that see no more than they need.

ALTER TABLE usage_logs
    ADD COLUMN dialect text NOT NULL DEFAULT '',         -- whose API was spoken: ollama, openai, anthropic, plain
    ADD COLUMN queue_ms integer NOT NULL DEFAULT 0,      -- waited for a slot of a node, all tries together
    ADD COLUMN address_hash text NOT NULL DEFAULT '',    -- the client's address, hashed
    ADD COLUMN gpu_ms bigint GENERATED ALWAYS AS (load_ms::bigint + prompt_ms + eval_ms) STORED;  -- by the node itself

-- Tries of a call that failed before its answer began, so that another one followed. The row has the last.
CREATE TABLE usage_attempts (
    call_id          uuid NOT NULL,
    created_at       timestamptz NOT NULL,  -- the call's
    number           integer NOT NULL,      -- from 1
    backend          text NOT NULL,
    status           text NOT NULL,         -- the error's code
    queue_ms         integer NOT NULL,
    response_time_ms integer NOT NULL,      -- from the slot to the failure

    CONSTRAINT usage_attempts_pkey PRIMARY KEY (created_at, call_id, number)
) PARTITION BY RANGE (created_at);

-- Sums of rows, raised by the statement that inserts them.
CREATE TABLE usage_hourly (
    hour               timestamptz NOT NULL,
    api_key_id         text NOT NULL,
    team_id            text NOT NULL,
    model              text NOT NULL,
    backend            text NOT NULL,
    status             text NOT NULL,
    calls              bigint NOT NULL,
    estimated_calls    bigint NOT NULL,
    prompt_tokens      bigint NOT NULL,
    completion_tokens  bigint NOT NULL,
    credits_micro      bigint NOT NULL,
    team_credits_micro bigint NOT NULL,
    response_ms        bigint NOT NULL,
    queue_ms           bigint NOT NULL,
    load_ms            bigint NOT NULL,
    prompt_ms          bigint NOT NULL,
    eval_ms            bigint NOT NULL,

    CONSTRAINT usage_hourly_pkey PRIMARY KEY (hour, api_key_id, team_id, model, backend, status)
) PARTITION BY RANGE (hour);

-- The same by day (UTC); kept when rows and hours are dropped.
CREATE TABLE usage_daily (
    day                date NOT NULL,
    api_key_id         text NOT NULL,
    team_id            text NOT NULL,
    model              text NOT NULL,
    backend            text NOT NULL,
    status             text NOT NULL,
    calls              bigint NOT NULL,
    estimated_calls    bigint NOT NULL,
    prompt_tokens      bigint NOT NULL,
    completion_tokens  bigint NOT NULL,
    credits_micro      bigint NOT NULL,
    team_credits_micro bigint NOT NULL,
    response_ms        bigint NOT NULL,
    queue_ms           bigint NOT NULL,
    load_ms            bigint NOT NULL,
    prompt_ms          bigint NOT NULL,
    eval_ms            bigint NOT NULL,

    CONSTRAINT usage_daily_pkey PRIMARY KEY (day, api_key_id, team_id, model, backend, status)
) WITH (fillfactor = 70);

CREATE INDEX usage_daily_by_key ON usage_daily (api_key_id, day);

-- What counts against allowances and credits, by the month that was charged; kept for ever: Redis is rebuilt from it.
CREATE TABLE usage_monthly (
    month              text NOT NULL,
    api_key_id         text NOT NULL,
    team_id            text NOT NULL,
    calls              bigint NOT NULL,
    prompt_tokens      bigint NOT NULL,
    completion_tokens  bigint NOT NULL,
    credits_micro      bigint NOT NULL,
    team_credits_micro bigint NOT NULL,

    CONSTRAINT usage_monthly_pkey PRIMARY KEY (api_key_id, month, team_id)
) WITH (fillfactor = 70);

CREATE INDEX usage_monthly_by_team ON usage_monthly (team_id, month) WHERE team_id <> '';

-- How often something took about how long: counts in the buckets of usage_bucket, for percentiles.
CREATE TABLE usage_timings (
    hour   timestamptz NOT NULL,
    model  text NOT NULL,
    what   text NOT NULL,      -- response, first_token: of calls that went well; queue: of all calls
    bucket smallint NOT NULL,
    calls  bigint NOT NULL,

    CONSTRAINT usage_timings_pkey PRIMARY KEY (hour, model, what, bucket)
) PARTITION BY RANGE (hour);

CREATE INDEX usage_timings_by_day ON usage_timings (((hour AT TIME ZONE 'UTC')::date), model);

-- Take what no month's partition takes; the worker's upkeep moves it out again, and says so.
CREATE TABLE usage_attempts_default PARTITION OF usage_attempts DEFAULT;
CREATE TABLE usage_hourly_default PARTITION OF usage_hourly DEFAULT;
CREATE TABLE usage_timings_default PARTITION OF usage_timings DEFAULT;

-- The limits of a key that says nothing itself, and whose tier says nothing: the settings, as the worker has them.
CREATE TABLE default_limits (
    only_row   boolean PRIMARY KEY DEFAULT true,
    limits     jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT default_limits_has_one_row CHECK (only_row),
    CONSTRAINT default_limits_form CHECK (limits_valid(limits))
);

INSERT INTO default_limits DEFAULT VALUES;

-- Milliseconds as a bucket: each is 19 % wider than the one before. Bucket b ends with 2^(b/4) ms; 0 holds 0 and 1.
CREATE FUNCTION usage_bucket(ms bigint) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN ms <= 1 THEN 0 ELSE ceil(4 * ln(ms::double precision) / ln(2::double precision) - 1e-9) END::smallint
$$;

-- Where in a bucket the value lies that `share` of all calls do not exceed, in ms: `upto` calls are in it and below.
CREATE FUNCTION usage_within(bucket smallint, calls bigint, upto bigint, total bigint, share double precision)
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT low + (high - low) * greatest(0, share * total - (upto - calls)) / calls
    FROM (SELECT CASE WHEN bucket = 0 THEN 0 ELSE 2 ^ ((bucket - 1) / 4.0::double precision) END AS low,
                 2 ^ (bucket / 4.0::double precision) AS high) AS edge
$$;

-- What is partitioned by month, and by which column.
CREATE FUNCTION usage_partitioned() RETURNS TABLE (parent text, key_column text) LANGUAGE sql IMMUTABLE AS $$
    VALUES ('usage_logs', 'created_at'), ('usage_attempts', 'created_at'), ('usage_hourly', 'hour'),
           ('usage_timings', 'hour')
$$;

-- Nobody but its owner and those whom a policy names sees a row of this table, whatever a platform grants to all (Supabase
-- does); nor may anybody else empty it, which policies do not cover.
CREATE FUNCTION close_table(name regclass) RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    grantee text;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
    FOR grantee IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = name AND a.privilege_type = 'TRUNCATE' AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE TRUNCATE ON TABLE %s FROM %s', name, grantee);
    END LOOP;
END
$$;

-- Make the partitions of the month (UTC) that `day` is in, and move there what the default ones hold of it. False: they
-- exist. Writers of other months are not held up; a second caller waits for the first.
CREATE OR REPLACE FUNCTION make_usage_partition(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first_day timestamp := date_trunc('month', day::timestamp);
    since timestamptz := first_day AT TIME ZONE 'UTC';
    until timestamptz := (first_day + interval '1 month') AT TIME ZONE 'UTC';
    made boolean := false;
    one record;
    partition text;
    columns text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_usage_partition'));
    FOR one IN SELECT * FROM usage_partitioned() LOOP
        partition := one.parent || '_' || to_char(day, 'YYYYMM');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
            FROM pg_attribute
            WHERE attrelid = one.parent::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, one.parent);
        IF one.key_column = 'hour' THEN
            EXECUTE format('ALTER TABLE %I SET (fillfactor = 70)', partition);
        END IF;
        PERFORM close_table(partition::regclass);
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', one.parent || '_default');
        EXECUTE format(
            'WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING %s) INSERT INTO %I (%s) SELECT %s FROM moved',
            one.parent || '_default', one.key_column, since, one.key_column, until, columns, partition, columns, columns);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', one.parent, partition, since,
                       until);
        made := true;
    END LOOP;
    RETURN made;
END
$$;

-- Drop the partitions of all months before the last `months_kept` (this one counts as the first); their names. What may yet
-- be inserted once more must find its row, or it counts twice: no month is dropped that an event which waits since
-- `unsettled_since` (NULL: none waits) can be of, nor the last one.
CREATE FUNCTION drop_usage_partitions(months_kept integer, unsettled_since timestamptz) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    oldest text := to_char(least(date_trunc('month', now() AT TIME ZONE 'UTC') - (months_kept - 1) * interval '1 month',
                                 unsettled_since AT TIME ZONE 'UTC' - interval '1 day'), 'YYYYMM');
    dropped text[];
    partition text;
BEGIN
    IF months_kept < 2 THEN
        RAISE EXCEPTION 'this month and the one before are always kept' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('make_usage_partition'));
    SELECT coalesce(array_agg(c.relname ORDER BY right(c.relname, 6), u.place), '{}') INTO dropped
        FROM usage_partitioned() WITH ORDINALITY AS u (parent, key_column, place)
        JOIN pg_inherits AS i ON i.inhparent = u.parent::regclass
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE c.relname ~ ('^' || u.parent || '_[0-9]{6}$') AND right(c.relname, 6) < oldest;
    IF dropped <> '{}' THEN  -- in the order in which writers take them
        LOCK TABLE usage_logs, usage_attempts, usage_hourly, usage_timings IN ACCESS EXCLUSIVE MODE;
    END IF;
    FOREACH partition IN ARRAY dropped LOOP
        EXECUTE format('DROP TABLE %I', partition);
    END LOOP;
    RETURN dropped;
END
$$;

-- Make all sums of a month (UTC, YYYYMM) anew from its rows, which must be there; how many there are. Writers wait.
CREATE FUNCTION rebuild_usage_rollups(of_month text) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    since timestamptz := to_date(of_month, 'YYYYMM')::timestamp AT TIME ZONE 'UTC';
    until timestamptz := (to_date(of_month, 'YYYYMM')::timestamp + interval '1 month') AT TIME ZONE 'UTC';
    found bigint;
BEGIN
    LOCK TABLE usage_logs IN SHARE ROW EXCLUSIVE MODE;
    SELECT count(*) INTO found FROM usage_logs WHERE created_at >= since AND created_at < until;
    -- One of the two may be wrong, which is why somebody calls this.
    IF found < (SELECT sum(calls) FROM usage_daily
                WHERE day >= (since AT TIME ZONE 'UTC')::date AND day < (until AT TIME ZONE 'UTC')::date)
       AND (SELECT count(*) FROM usage_logs
            WHERE month = of_month AND created_at >= since - interval '1 day' AND created_at < until + interval '1 day')
           < (SELECT sum(calls) FROM usage_monthly WHERE month = of_month) THEN
        RAISE EXCEPTION 'the rows of % are gone: its sums are all there is', of_month USING ERRCODE = 'no_data_found';
    END IF;
    DELETE FROM usage_hourly WHERE hour >= since AND hour < until;
    DELETE FROM usage_timings WHERE hour >= since AND hour < until;
    DELETE FROM usage_daily WHERE day >= (since AT TIME ZONE 'UTC')::date AND day < (until AT TIME ZONE 'UTC')::date;
    DELETE FROM usage_monthly WHERE month = of_month;
    INSERT INTO usage_hourly
        SELECT date_trunc('hour', created_at, 'UTC'), api_key_id, team_id, model, backend, status,
               count(*), count(*) FILTER (WHERE estimated), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
               sum(team_credits_micro), sum(response_time_ms), sum(queue_ms), sum(load_ms), sum(prompt_ms), sum(eval_ms)
        FROM usage_logs WHERE created_at >= since AND created_at < until
        GROUP BY 1, 2, 3, 4, 5, 6;
    INSERT INTO usage_daily
        SELECT (hour AT TIME ZONE 'UTC')::date, api_key_id, team_id, model, backend, status,
               sum(calls), sum(estimated_calls), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
               sum(team_credits_micro), sum(response_ms), sum(queue_ms), sum(load_ms), sum(prompt_ms), sum(eval_ms)
        FROM usage_hourly WHERE hour >= since AND hour < until
        GROUP BY 1, 2, 3, 4, 5, 6;
    INSERT INTO usage_timings
        SELECT date_trunc('hour', created_at, 'UTC'), model, what, usage_bucket(ms), count(*)
        FROM usage_logs CROSS JOIN LATERAL (VALUES
            ('response', CASE WHEN status = 'ok' THEN response_time_ms END),
            ('first_token', CASE WHEN status = 'ok' THEN nullif(first_token_ms, 0) END),
            ('queue', queue_ms)
        ) AS took (what, ms)
        WHERE created_at >= since AND created_at < until AND ms IS NOT NULL
        GROUP BY 1, 2, 3, 4;
    INSERT INTO usage_monthly
        SELECT month, api_key_id, team_id, count(*), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
               sum(team_credits_micro)
        FROM usage_logs
        WHERE month = of_month AND created_at >= since - interval '1 day' AND created_at < until + interval '1 day'
        GROUP BY 1, 2, 3;
    RETURN found;
END
$$;

-- What dashboards read. A schema of its own, so that nothing that publishes `public` publishes it.
CREATE SCHEMA dashboard;

-- The grain to group freely: one row an hour (or day), key, team, model, node and status.
CREATE VIEW dashboard.hourly AS
SELECT hour, api_key_id, team_id, model, backend, status, calls, estimated_calls,
       prompt_tokens, completion_tokens, prompt_tokens + completion_tokens AS total_tokens,
       credits_micro / 1000000.0 AS credits, team_credits_micro / 1000000.0 AS team_credits,
       response_ms / 1000.0 AS response_seconds, queue_ms / 1000.0 AS queue_seconds,
       (load_ms + prompt_ms + eval_ms) / 1000.0 AS gpu_seconds
FROM usage_hourly;

CREATE VIEW dashboard.daily AS
SELECT day, api_key_id, team_id, model, backend, status, calls, estimated_calls,
       prompt_tokens, completion_tokens, prompt_tokens + completion_tokens AS total_tokens,
       credits_micro / 1000000.0 AS credits, team_credits_micro / 1000000.0 AS team_credits,
       response_ms / 1000.0 AS response_seconds, queue_ms / 1000.0 AS queue_seconds,
       (load_ms + prompt_ms + eval_ms) / 1000.0 AS gpu_seconds
FROM usage_daily;

CREATE VIEW dashboard.usage_by_day AS
SELECT day, sum(calls)::bigint AS calls, coalesce(sum(calls) FILTER (WHERE status <> 'ok'), 0)::bigint AS failed_calls,
       sum(prompt_tokens)::bigint AS prompt_tokens, sum(completion_tokens)::bigint AS completion_tokens,
       sum(total_tokens)::bigint AS total_tokens, sum(credits) AS credits, sum(gpu_seconds) AS gpu_seconds,
       count(DISTINCT api_key_id) AS keys
FROM dashboard.daily
GROUP BY day;

CREATE VIEW dashboard.usage_by_key AS
SELECT d.day, d.api_key_id, coalesce(k.label, '') AS label, coalesce(k.owner_email, '') AS owner_email,
       sum(d.calls)::bigint AS calls, coalesce(sum(d.calls) FILTER (WHERE d.status <> 'ok'), 0)::bigint AS failed_calls,
       sum(d.prompt_tokens)::bigint AS prompt_tokens, sum(d.completion_tokens)::bigint AS completion_tokens,
       sum(d.total_tokens)::bigint AS total_tokens, sum(d.credits) AS credits, sum(d.gpu_seconds) AS gpu_seconds
FROM dashboard.daily AS d LEFT JOIN api_keys AS k ON k.id = d.api_key_id
GROUP BY d.day, d.api_key_id, k.id;

CREATE VIEW dashboard.usage_by_model AS
SELECT day, model, sum(calls)::bigint AS calls, coalesce(sum(calls) FILTER (WHERE status <> 'ok'), 0)::bigint AS failed_calls,
       sum(prompt_tokens)::bigint AS prompt_tokens, sum(completion_tokens)::bigint AS completion_tokens,
       sum(total_tokens)::bigint AS total_tokens, sum(credits) AS credits, sum(gpu_seconds) AS gpu_seconds,
       count(DISTINCT api_key_id) AS keys
FROM dashboard.daily
GROUP BY day, model;

CREATE VIEW dashboard.usage_by_team AS
SELECT d.day, d.team_id, coalesce(t.label, '') AS label, sum(d.calls)::bigint AS calls,
       coalesce(sum(d.calls) FILTER (WHERE d.status <> 'ok'), 0)::bigint AS failed_calls,
       sum(d.prompt_tokens)::bigint AS prompt_tokens, sum(d.completion_tokens)::bigint AS completion_tokens,
       sum(d.total_tokens)::bigint AS total_tokens, sum(d.team_credits) AS team_credits,
       sum(d.gpu_seconds) AS gpu_seconds, count(DISTINCT d.api_key_id) AS keys
FROM dashboard.daily AS d LEFT JOIN teams AS t ON t.id = d.team_id
WHERE d.team_id <> ''
GROUP BY d.day, d.team_id, t.id;

CREATE VIEW dashboard.usage_by_backend AS
SELECT day, backend, sum(calls)::bigint AS calls, coalesce(sum(calls) FILTER (WHERE status <> 'ok'), 0)::bigint AS failed_calls,
       sum(total_tokens)::bigint AS total_tokens, sum(gpu_seconds) AS gpu_seconds,
       count(DISTINCT model) AS models
FROM dashboard.daily
WHERE backend <> ''
GROUP BY day, backend;

-- This month (UTC), by tokens.
CREATE VIEW dashboard.top_keys AS
SELECT rank() OVER (ORDER BY sum(m.prompt_tokens + m.completion_tokens) DESC) AS place,
       m.api_key_id, coalesce(k.label, '') AS label, coalesce(k.owner_email, '') AS owner_email,
       sum(m.calls)::bigint AS calls, sum(m.prompt_tokens + m.completion_tokens)::bigint AS total_tokens,
       sum(m.credits_micro) / 1000000.0 AS credits
FROM usage_monthly AS m LEFT JOIN api_keys AS k ON k.id = m.api_key_id
WHERE m.month = to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')
GROUP BY m.api_key_id, k.id;

-- Percentiles from the buckets: off by less than 19 % (one bucket), among many calls by a few. Of calls that went well.
CREATE VIEW dashboard.latency_by_hour AS
WITH share AS (
    SELECT hour, model, what, bucket, sum(calls)::bigint AS calls,
           (sum(sum(calls)) OVER (PARTITION BY hour, model, what ORDER BY bucket))::bigint AS upto,
           (sum(sum(calls)) OVER (PARTITION BY hour, model, what))::bigint AS total
    FROM usage_timings
    WHERE what <> 'queue'
    GROUP BY hour, model, what, bucket
)
SELECT hour, model, what, max(total) AS calls,
       min(usage_within(bucket, calls, upto, total, 0.5))
           FILTER (WHERE 2 * upto >= total AND 2 * (upto - calls) < total) AS p50_ms,
       min(usage_within(bucket, calls, upto, total, 0.95))
           FILTER (WHERE 20 * upto >= 19 * total AND 20 * (upto - calls) < 19 * total) AS p95_ms,
       min(usage_within(bucket, calls, upto, total, 0.99))
           FILTER (WHERE 100 * upto >= 99 * total AND 100 * (upto - calls) < 99 * total) AS p99_ms
FROM share
GROUP BY hour, model, what;

CREATE VIEW dashboard.latency_by_day AS
WITH share AS (
    SELECT (hour AT TIME ZONE 'UTC')::date AS day, model, what, bucket, sum(calls)::bigint AS calls,
           (sum(sum(calls)) OVER (PARTITION BY (hour AT TIME ZONE 'UTC')::date, model, what ORDER BY bucket))::bigint AS upto,
           (sum(sum(calls)) OVER (PARTITION BY (hour AT TIME ZONE 'UTC')::date, model, what))::bigint AS total
    FROM usage_timings
    WHERE what <> 'queue'
    GROUP BY (hour AT TIME ZONE 'UTC')::date, model, what, bucket
)
SELECT day, model, what, max(total) AS calls,
       min(usage_within(bucket, calls, upto, total, 0.5))
           FILTER (WHERE 2 * upto >= total AND 2 * (upto - calls) < total) AS p50_ms,
       min(usage_within(bucket, calls, upto, total, 0.95))
           FILTER (WHERE 20 * upto >= 19 * total AND 20 * (upto - calls) < 19 * total) AS p95_ms,
       min(usage_within(bucket, calls, upto, total, 0.99))
           FILTER (WHERE 100 * upto >= 99 * total AND 100 * (upto - calls) < 99 * total) AS p99_ms
FROM share
GROUP BY day, model, what;

-- Waits for a slot of a node, of all calls. `waited_calls`: those that waited longer than 1 ms.
CREATE VIEW dashboard.queue_waits AS
WITH share AS (
    SELECT hour, model, bucket, sum(calls)::bigint AS calls,
           (sum(sum(calls)) OVER (PARTITION BY hour, model ORDER BY bucket))::bigint AS upto,
           (sum(sum(calls)) OVER (PARTITION BY hour, model))::bigint AS total
    FROM usage_timings
    WHERE what = 'queue'
    GROUP BY hour, model, bucket
)
SELECT hour, model, max(total) AS calls,
       coalesce(sum(calls) FILTER (WHERE bucket > 0), 0)::bigint AS waited_calls,
       min(usage_within(bucket, calls, upto, total, 0.5))
           FILTER (WHERE 2 * upto >= total AND 2 * (upto - calls) < total) AS p50_ms,
       min(usage_within(bucket, calls, upto, total, 0.95))
           FILTER (WHERE 20 * upto >= 19 * total AND 20 * (upto - calls) < 19 * total) AS p95_ms,
       min(usage_within(bucket, calls, upto, total, 0.99))
           FILTER (WHERE 100 * upto >= 99 * total AND 100 * (upto - calls) < 99 * total) AS p99_ms
FROM share
GROUP BY hour, model;

-- Calls that did not go well; `share` of all calls of that day, model and node.
CREATE VIEW dashboard.errors AS
SELECT day, model, backend, status, calls, calls / total AS share
FROM (
    SELECT day, model, backend, status, sum(calls)::bigint AS calls,
           sum(sum(calls)) OVER (PARTITION BY day, model, backend) AS total
    FROM usage_daily
    GROUP BY day, model, backend, status
) AS ended
WHERE status <> 'ok';

-- What keys and their teams were charged, by month.
CREATE VIEW dashboard.cost AS
SELECT to_date(m.month, 'YYYYMM') AS month, m.api_key_id, coalesce(k.label, '') AS label, m.team_id,
       coalesce(t.label, '') AS team_label, m.calls, m.prompt_tokens, m.completion_tokens,
       m.credits_micro / 1000000.0 AS credits, m.team_credits_micro / 1000000.0 AS team_credits
FROM usage_monthly AS m
LEFT JOIN api_keys AS k ON k.id = m.api_key_id
LEFT JOIN teams AS t ON t.id = m.team_id;

-- Keys and teams that have used 80 % or more of this month's tokens, or of all credits they were ever granted.
CREATE VIEW dashboard.near_limit AS
WITH holder AS (
    SELECT 'key' AS kind, k.id, k.label, k.metered, k.credits_granted_micro,
           CASE WHEN k.limits ? 'monthly_token_limit' THEN k.limits
                WHEN t.limits ? 'monthly_token_limit' THEN t.limits
                ELSE d.limits END ->> 'monthly_token_limit' AS monthly_token_limit
    FROM api_keys AS k LEFT JOIN tiers AS t ON t.name = k.tier CROSS JOIN default_limits AS d
    WHERE k.enabled AND k.revoked_at IS NULL
    UNION ALL
    SELECT 'team', id, label, metered, credits_granted_micro, limits ->> 'monthly_token_limit' FROM teams
), spent AS (
    SELECT 'key' AS kind, api_key_id AS id, sum(credits_micro) AS credits_micro,
           sum(prompt_tokens + completion_tokens) FILTER (WHERE month = to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')) AS tokens
    FROM usage_monthly GROUP BY api_key_id
    UNION ALL
    SELECT 'team', team_id, sum(team_credits_micro),
           sum(prompt_tokens + completion_tokens) FILTER (WHERE month = to_char(now() AT TIME ZONE 'UTC', 'YYYYMM'))
    FROM usage_monthly WHERE team_id <> '' GROUP BY team_id
), used AS (
    SELECT h.kind, h.id, h.label, 'monthly_tokens' AS what, coalesce(s.tokens, 0)::numeric AS used,
           h.monthly_token_limit::numeric AS most
    FROM holder AS h LEFT JOIN spent AS s USING (kind, id)
    UNION ALL
    SELECT h.kind, h.id, h.label, 'credits', coalesce(s.credits_micro, 0) / 1000000.0, h.credits_granted_micro / 1000000.0
    FROM holder AS h LEFT JOIN spent AS s USING (kind, id)
    WHERE h.metered
)
SELECT kind, id, label, what, used, most, CASE WHEN most > 0 THEN used / most ELSE 1 END AS share
FROM used
WHERE used >= 0.8 * most;

-- Single calls, and the tries that failed before them. Ask with a range of created_at: partitions are read by it.
CREATE VIEW dashboard.calls AS
SELECT created_at, id, api_key_id, team_id, model, backend, endpoint, dialect, streamed, status, http_status, finish_reason,
       estimated, prompt_tokens, completion_tokens, total_tokens, credits_micro / 1000000.0 AS credits,
       team_credits_micro / 1000000.0 AS team_credits, response_time_ms, first_token_ms, queue_ms, load_ms, prompt_ms,
       eval_ms, gpu_ms / 1000.0 AS gpu_seconds, end_user, address_hash
FROM usage_logs;

CREATE VIEW dashboard.attempts AS
SELECT created_at, call_id, number, backend, status, queue_ms, response_time_ms FROM usage_attempts;

-- Who may do what: groups, to which an operator adds users of his own. None owns anything. Where this database's user may
-- make no roles, somebody else makes them and calls this again.
CREATE FUNCTION grant_gateway_roles() RETURNS text[]
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    granted text[] := '{}';
    one record;
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['gateway_app', 'gateway_worker', 'dashboard_reader'] LOOP
        IF to_regrole(role) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;  -- somebody else, at this very moment
                WHEN insufficient_privilege THEN
                    RAISE WARNING 'the role % cannot be made by this user', role;
            END;
        END IF;
    END LOOP;
    FOR one IN
        SELECT r.role, t.name, t.rights
        FROM (VALUES
            ('gateway_app', 'SELECT, INSERT, UPDATE, DELETE', ARRAY[
                'tiers', 'teams', 'api_keys', 'api_key_secrets', 'prices', 'price_list', 'backends', 'model_aliases',
                'fleet', 'admin_requests']),
            ('gateway_app', 'SELECT, INSERT', ARRAY['credit_grants', 'audit_log']),
            ('gateway_app', 'SELECT', ARRAY[
                'gateway_migrations', 'usage_logs', 'usage_attempts', 'usage_hourly', 'usage_daily', 'usage_monthly',
                'usage_timings', 'default_limits']),
            ('gateway_worker', 'SELECT', ARRAY[
                'gateway_migrations', 'tiers', 'teams', 'api_keys', 'api_key_secrets', 'prices', 'price_list', 'backends',
                'model_aliases', 'fleet', 'credit_grants', 'usage_logs_default', 'usage_attempts_default',
                'usage_hourly_default', 'usage_timings_default']),
            ('gateway_worker', 'SELECT, DELETE', ARRAY['admin_requests']),
            ('gateway_worker', 'SELECT, INSERT', ARRAY['usage_logs', 'usage_attempts']),
            ('gateway_worker', 'SELECT, INSERT, UPDATE', ARRAY[
                'usage_hourly', 'usage_daily', 'usage_monthly', 'usage_timings', 'default_limits'])
        ) AS r (role, rights, names), LATERAL (SELECT unnest(r.names) AS name, r.rights) AS t
    LOOP
        CONTINUE WHEN to_regrole(one.role) IS NULL;
        EXECUTE format('GRANT %s ON %I TO %I', one.rights, one.name, one.role);
        EXECUTE format('DROP POLICY IF EXISTS %I ON %I', one.role, one.name);
        EXECUTE format('CREATE POLICY %I ON %I TO %I USING (true) WITH CHECK (true)', one.role, one.name, one.role);
    END LOOP;
    FOREACH role IN ARRAY ARRAY['gateway_app', 'gateway_worker', 'dashboard_reader'] LOOP
        CONTINUE WHEN to_regrole(role) IS NULL;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', role);
        IF role <> 'gateway_worker' THEN
            EXECUTE format('GRANT USAGE ON SCHEMA dashboard TO %I', role);
            EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA dashboard TO %I', role);
        END IF;
        granted := granted || role;
    END LOOP;
    -- What a platform grants by default on every function (Supabase does), taken back of those that change something.
    FOR one IN
        SELECT p.oid::regprocedure AS called, a.grantee::regrole AS grantee
        FROM pg_proc AS p CROSS JOIN LATERAL aclexplode(p.proacl) AS a
        WHERE p.oid IN ('make_usage_partition(date)'::regprocedure,
                        'drop_usage_partitions(integer, timestamptz)'::regprocedure, 'close_table(regclass)'::regprocedure,
                        'rebuild_usage_rollups(text)'::regprocedure, 'grant_gateway_roles()'::regprocedure)
          AND a.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', one.called, one.grantee);
    END LOOP;
    IF to_regrole('gateway_worker') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION make_usage_partition(date), drop_usage_partitions(integer, timestamptz)
            TO gateway_worker;
    END IF;
    RETURN granted;
END
$$;

REVOKE ALL ON FUNCTION make_usage_partition(date), drop_usage_partitions(integer, timestamptz),
    rebuild_usage_rollups(text), close_table(regclass), grant_gateway_roles() FROM PUBLIC;

-- These and no others: `public` may hold tables that are not the gateway's.
SELECT close_table(name::regclass) FROM unnest(ARRAY[
    'gateway_migrations', 'tiers', 'teams', 'api_keys', 'api_key_secrets', 'prices', 'price_list', 'backends',
    'model_aliases', 'fleet', 'credit_grants', 'audit_log', 'admin_requests', 'default_limits', 'usage_logs',
    'usage_attempts', 'usage_hourly', 'usage_daily', 'usage_monthly', 'usage_timings']) AS name;
SELECT close_table(i.inhrelid::regclass)
FROM usage_partitioned() AS u JOIN pg_inherits AS i ON i.inhparent = u.parent::regclass;

SELECT grant_gateway_roles();

-- What is there already: its partitions, its sums.
DO $$
DECLARE
    month text;
BEGIN
    FOR month IN SELECT right(c.relname, 6) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                 WHERE i.inhparent = 'usage_logs'::regclass AND c.relname ~ '^usage_logs_[0-9]{6}$' LOOP
        PERFORM make_usage_partition(to_date(month, 'YYYYMM'));
    END LOOP;
    FOR month IN SELECT DISTINCT to_char(created_at AT TIME ZONE 'UTC', 'YYYYMM') FROM usage_logs LOOP
        PERFORM rebuild_usage_rollups(month);
    END LOOP;
END
$$;
