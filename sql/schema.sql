-- The whole schema, for readers. What runs is migrations/; a test holds the two equal.

CREATE TABLE gateway_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,  -- hex SHA-256 of the file that ran
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The truth about keys. Redis holds a copy, which any change here replaces within seconds.
CREATE TABLE api_keys (
    id                    text PRIMARY KEY,
    digest                text NOT NULL,    -- hex SHA-256 of the whole key; the key itself is nowhere
    last_four             text NOT NULL,
    label                 text NOT NULL DEFAULT '',
    owner_email           text NOT NULL DEFAULT '',
    enabled               boolean NOT NULL DEFAULT true,
    expires_at            timestamptz,      -- NULL: never
    rate_limit_per_min    integer NOT NULL,
    tokens_per_min        integer,          -- NULL, here and below: unlimited
    concurrency           integer,
    monthly_token_limit   bigint,
    credits_granted_micro bigint,           -- millionths of a credit, in all; NULL: no credits are kept
    version               bigint NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at            timestamptz,

    CONSTRAINT api_keys_digest_unique UNIQUE (digest),
    CONSTRAINT api_keys_id_form CHECK (id ~ '^[0-9A-Za-z]{1,64}$'),
    CONSTRAINT api_keys_digest_form CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT api_keys_label_short CHECK (char_length(label) <= 500),
    CONSTRAINT api_keys_owner_email_short CHECK (char_length(owner_email) <= 320),
    CONSTRAINT api_keys_rate_limit_per_min_range CHECK (rate_limit_per_min BETWEEN 1 AND 100000000),
    CONSTRAINT api_keys_tokens_per_min_range CHECK (tokens_per_min BETWEEN 1 AND 100000000),
    CONSTRAINT api_keys_concurrency_range CHECK (concurrency >= 1),
    -- Redis counts in doubles: exact below 2^53.
    CONSTRAINT api_keys_monthly_token_limit_range CHECK (monthly_token_limit BETWEEN 0 AND 9007199254740991),
    CONSTRAINT api_keys_credits_granted_range CHECK (credits_granted_micro BETWEEN 0 AND 9007199254740991),
    CONSTRAINT api_keys_version_positive CHECK (version >= 1),
    CONSTRAINT api_keys_times_finite CHECK (isfinite(created_at) AND isfinite(updated_at) AND isfinite(expires_at)),
    CONSTRAINT api_keys_revoked_for_good CHECK (revoked_at IS NULL OR NOT enabled)
);

CREATE INDEX api_keys_by_creation ON api_keys (created_at, id);
CREATE INDEX api_keys_by_change ON api_keys (updated_at, id);

-- Whoever changes a row, through the admin API or by hand: the version grows, so the change reaches every replica.
CREATE FUNCTION api_keys_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

CREATE TRIGGER api_keys_changed BEFORE UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION api_keys_changed();

-- One row a call. No foreign key to api_keys: an event that Redis has charged for is never refused.
CREATE TABLE usage_logs (
    id                uuid NOT NULL,        -- the call's id (UUIDv7), X-Request-Id of its answer
    api_key_id        text NOT NULL,
    model             text NOT NULL,
    prompt_tokens     integer NOT NULL,
    completion_tokens integer NOT NULL,
    total_tokens      bigint GENERATED ALWAYS AS (prompt_tokens::bigint + completion_tokens) STORED,
    endpoint          text NOT NULL,
    response_time_ms  integer NOT NULL,
    created_at        timestamptz NOT NULL, -- when Redis admitted the call; never now(), so a late event is one row
    month             text NOT NULL,        -- UTC, YYYYMM: the month whose allowance was charged
    credits_micro     bigint NOT NULL,      -- millionths of a credit
    estimated         boolean NOT NULL,     -- tokens counted by the gateway, not by the model server
    status            text NOT NULL,        -- ok, client_gone, or the error's code
    http_status       integer NOT NULL,
    backend           text NOT NULL,
    streamed          boolean NOT NULL,
    finish_reason     text NOT NULL,
    first_token_ms    integer NOT NULL,     -- 0, here and below: unknown
    load_ms           integer NOT NULL,
    prompt_ms         integer NOT NULL,
    eval_ms           integer NOT NULL,
    end_user          text NOT NULL,

    CONSTRAINT usage_logs_pkey PRIMARY KEY (created_at, id),
    CONSTRAINT usage_logs_tokens_positive CHECK (prompt_tokens >= 0 AND completion_tokens >= 0),
    CONSTRAINT usage_logs_credits_positive CHECK (credits_micro >= 0),
    CONSTRAINT usage_logs_month_form CHECK (month ~ '^[0-9]{6}$')
) PARTITION BY RANGE (created_at);

CREATE INDEX usage_logs_by_key ON usage_logs (api_key_id, created_at);
CREATE INDEX usage_logs_by_model ON usage_logs (model, created_at);

-- Takes what no month's partition takes; the worker's upkeep moves it out again.
CREATE TABLE usage_logs_default PARTITION OF usage_logs DEFAULT;

-- Make the partition of the month (UTC) that `day` is in, and move there what the default partition holds of it.
-- False: it exists. Writers of other months are not held up; a second caller waits for the first.
CREATE FUNCTION make_usage_partition(day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    partition text := 'usage_logs_' || to_char(day, 'YYYYMM');
    first_day timestamp := date_trunc('month', day::timestamp);
    since timestamptz := first_day AT TIME ZONE 'UTC';
    until timestamptz := (first_day + interval '1 month') AT TIME ZONE 'UTC';
    columns text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_usage_partition'));
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
        FROM pg_attribute
        WHERE attrelid = 'usage_logs'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE format('CREATE TABLE %I (LIKE usage_logs INCLUDING ALL)', partition);
    LOCK TABLE usage_logs_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format(
        'WITH moved AS (DELETE FROM usage_logs_default WHERE created_at >= %L AND created_at < %L RETURNING %s)'
        ' INSERT INTO %I (%s) SELECT %s FROM moved',
        since, until, columns, partition, columns, columns);
    EXECUTE format('ALTER TABLE usage_logs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition, since, until);
    RETURN true;
END
$$;
