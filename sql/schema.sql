-- The whole schema, for readers. What runs is migrations/; a test holds the two equal.

CREATE TABLE gateway_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,  -- hex SHA-256 of the file that ran
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Whether `document` says nothing of a limit, that there is none (null), or a whole number from 1 to `most`.
CREATE FUNCTION limit_valid(document jsonb, name text, most bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE coalesce(jsonb_typeof(document -> name), 'null')
        WHEN 'null' THEN true
        WHEN 'number' THEN (document ->> name)::numeric BETWEEN 1 AND most AND (document ->> name)::numeric % 1 = 0
        ELSE false
    END
$$;

-- Whether the document is one of limits of some models, by glob. As core/limits.py has it.
CREATE FUNCTION model_limits_valid(document jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = public, pg_temp AS $$
BEGIN
    IF document IS NULL THEN
        RETURN true;
    END IF;
    IF jsonb_typeof(document) <> 'object' OR (SELECT count(*) FROM jsonb_object_keys(document)) > 16 THEN
        RETURN false;
    END IF;
    RETURN NOT EXISTS (
        SELECT FROM jsonb_each(document) AS one (glob, said)
        WHERE glob !~ '^[^[:space:];]{1,200}$' OR jsonb_typeof(said) <> 'object'
           OR said - 'rate_limit_per_min' - 'tokens_per_min' <> '{}'
           OR NOT limit_valid(said, 'rate_limit_per_min', 100000000)
           OR NOT limit_valid(said, 'tokens_per_min', 100000000));
END
$$;

-- Whether the document is one of limits. As core/limits.py has it; a name left out says nothing.
CREATE FUNCTION limits_valid(document jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = public, pg_temp AS $$
BEGIN
    RETURN jsonb_typeof(document) = 'object'
       AND document - ARRAY['rate_limit_per_min', 'burst', 'tokens_per_min', 'concurrency', 'monthly_token_limit',
                            'model_limits'] = '{}'
       AND limit_valid(document, 'rate_limit_per_min', 100000000)
       AND limit_valid(document, 'burst', 100000000)
       AND limit_valid(document, 'tokens_per_min', 100000000)
       AND limit_valid(document, 'concurrency', 10000)
       AND limit_valid(document, 'monthly_token_limit', 1000000000000)
       AND model_limits_valid(document -> 'model_limits');
END
$$;

-- Whether there are at most `most` words of 1 to `chars_max` characters and no space.
CREATE FUNCTION words_valid(words text[], most integer, chars_max integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT cardinality(words) <= most
       AND NOT EXISTS (SELECT FROM unnest(words) AS word
                       WHERE word IS NULL OR word ~ '[[:space:]]' OR char_length(word) NOT BETWEEN 1 AND chars_max)
$$;

-- Whether each is a network, address/bits.
CREATE FUNCTION networks_valid(networks text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = public, pg_temp AS $$
BEGIN
    RETURN words_valid(networks, 64, 64)
       AND NOT EXISTS (SELECT FROM unnest(networks) AS one
                       WHERE one !~ '^([0-9]{1,3}([.][0-9]{1,3}){3}|[0-9a-fA-F.]*:[0-9a-fA-F:.]*)/[0-9]{1,3}$'
                          OR one::inet IS NULL);
EXCEPTION WHEN invalid_text_representation THEN
    RETURN false;
END
$$;

-- Whoever changes a row, through the admin API or by hand: the version grows, so the change reaches every replica.
CREATE FUNCTION row_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

-- For what must never be told otherwise afterwards.
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME;
END
$$;

-- A class of keys: limits for those that say nothing themselves, and what their calls cost.
CREATE TABLE tiers (
    name             text PRIMARY KEY,
    multiplier_milli integer NOT NULL DEFAULT 1000,  -- thousandths of the price
    limits           jsonb NOT NULL DEFAULT '{}',    -- as core/limits.py has it: left out: says nothing; null: unlimited
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    weight           integer NOT NULL DEFAULT 1,     -- share of each of its keys in the waiting line

    CONSTRAINT tiers_name_form CHECK (name ~ '^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$'),
    CONSTRAINT tiers_multiplier_range CHECK (multiplier_milli BETWEEN 0 AND 100000),
    CONSTRAINT tiers_limits_form CHECK (limits_valid(limits)),
    CONSTRAINT tiers_times_finite CHECK (isfinite(created_at) AND isfinite(updated_at)),
    CONSTRAINT tiers_weight_range CHECK (weight BETWEEN 1 AND 100)
);

INSERT INTO tiers (name, multiplier_milli) VALUES ('basic', 2000), ('premium', 1000);

-- Keys that share limits and credits, beside those of their own.
CREATE TABLE teams (
    id                    text PRIMARY KEY,
    label                 text NOT NULL DEFAULT '',
    limits                jsonb NOT NULL DEFAULT '{}',
    shadow                boolean NOT NULL DEFAULT false,  -- limits are counted and refuse nobody
    metered               boolean NOT NULL DEFAULT false,  -- whether calls are charged to its credits
    credits_granted_micro bigint NOT NULL DEFAULT 0,       -- millionths of a credit: the sum of its grants
    version               bigint NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT teams_id_form CHECK (id ~ '^[0-9A-Za-z]{1,64}$'),
    CONSTRAINT teams_label_short CHECK (char_length(label) <= 500),
    CONSTRAINT teams_limits_form CHECK (limits_valid(limits)),
    CONSTRAINT teams_credits_granted_range CHECK (credits_granted_micro BETWEEN 0 AND 9007199254740991),
    CONSTRAINT teams_version_positive CHECK (version >= 1),
    CONSTRAINT teams_times_finite CHECK (isfinite(created_at) AND isfinite(updated_at))
);

CREATE INDEX teams_by_creation ON teams (created_at, id);
CREATE INDEX teams_by_change ON teams (updated_at, id);

CREATE TRIGGER teams_changed BEFORE UPDATE ON teams
    FOR EACH ROW EXECUTE FUNCTION row_changed();

-- The truth about keys. Redis holds a copy, which any change here replaces within seconds.
CREATE TABLE api_keys (
    id                    text PRIMARY KEY,
    label                 text NOT NULL DEFAULT '',
    owner_email           text NOT NULL DEFAULT '',
    enabled               boolean NOT NULL DEFAULT true,
    expires_at            timestamptz,                     -- NULL: never
    credits_granted_micro bigint NOT NULL DEFAULT 0,       -- millionths of a credit: the sum of its grants
    version               bigint NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at            timestamptz,
    limits                jsonb NOT NULL DEFAULT '{}',     -- as core/limits.py has it
    tier                  text,
    team_id               text,
    scopes                text[] NOT NULL DEFAULT '{inference}',
    models                text[] NOT NULL DEFAULT '{}',    -- globs of canonical names; none: all
    networks              text[] NOT NULL DEFAULT '{}',    -- CIDRs; none: anywhere
    shadow                boolean NOT NULL DEFAULT false,  -- limits are counted and refuse nobody
    metered               boolean NOT NULL DEFAULT false,  -- whether calls are charged to its credits

    CONSTRAINT api_keys_tier_exists FOREIGN KEY (tier) REFERENCES tiers (name),
    CONSTRAINT api_keys_team_exists FOREIGN KEY (team_id) REFERENCES teams (id),
    CONSTRAINT api_keys_id_form CHECK (id ~ '^[0-9A-Za-z]{1,64}$'),
    CONSTRAINT api_keys_label_short CHECK (char_length(label) <= 500),
    CONSTRAINT api_keys_owner_email_short CHECK (char_length(owner_email) <= 320),
    CONSTRAINT api_keys_limits_form CHECK (limits_valid(limits)),
    -- None would allow everything.
    CONSTRAINT api_keys_scopes_known CHECK (cardinality(scopes) > 0 AND scopes <@ '{inference,pull}'),
    CONSTRAINT api_keys_models_form CHECK (words_valid(models, 64, 200)),
    CONSTRAINT api_keys_networks_form CHECK (networks_valid(networks)),
    -- Redis counts in doubles: exact below 2^53.
    CONSTRAINT api_keys_credits_granted_range CHECK (credits_granted_micro BETWEEN 0 AND 9007199254740991),
    CONSTRAINT api_keys_version_positive CHECK (version >= 1),
    CONSTRAINT api_keys_times_finite CHECK (isfinite(created_at) AND isfinite(updated_at) AND isfinite(expires_at)),
    CONSTRAINT api_keys_revoked_for_good CHECK (revoked_at IS NULL OR NOT enabled)
);

CREATE INDEX api_keys_by_creation ON api_keys (created_at, id);
CREATE INDEX api_keys_by_change ON api_keys (updated_at, id);
CREATE INDEX api_keys_by_tier ON api_keys (tier, id) WHERE tier IS NOT NULL;
CREATE INDEX api_keys_by_team ON api_keys (team_id, id) WHERE team_id IS NOT NULL;

CREATE TRIGGER api_keys_changed BEFORE UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION row_changed();

-- What keys are recognised by: two while one is rotated. Only digests; the keys themselves are nowhere.
CREATE TABLE api_key_secrets (
    place      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the highest of a key is its newest
    api_key_id text NOT NULL,
    digest     text NOT NULL,             -- hex SHA-256 of the whole key, or its HMAC-SHA-256 under the pepper
    pepper_id  text NOT NULL DEFAULT '',  -- which pepper; '': none
    last_four  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,               -- NULL: with the key

    CONSTRAINT api_key_secrets_key_exists FOREIGN KEY (api_key_id) REFERENCES api_keys (id),
    CONSTRAINT api_key_secrets_digest_unique UNIQUE (digest),
    CONSTRAINT api_key_secrets_digest_form CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT api_key_secrets_pepper_id_form CHECK (pepper_id ~ '^[0-9a-f]{0,64}$'),
    CONSTRAINT api_key_secrets_last_four_short CHECK (char_length(last_four) <= 4),
    CONSTRAINT api_key_secrets_times_finite CHECK (isfinite(created_at) AND isfinite(expires_at))
);

CREATE INDEX api_key_secrets_by_key ON api_key_secrets (api_key_id, place);

-- What replicas are told of a key depends on its secrets and its tier too, so its version grows with theirs.
CREATE FUNCTION api_key_secrets_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE api_keys SET id = id WHERE id = OLD.api_key_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_key_secrets_changed AFTER UPDATE OR DELETE ON api_key_secrets
    FOR EACH ROW EXECUTE FUNCTION api_key_secrets_changed();

CREATE FUNCTION tiers_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE api_keys SET tier = tier WHERE tier = NEW.name;
    RETURN NULL;
END
$$;

CREATE TRIGGER tiers_changed AFTER UPDATE ON tiers FOR EACH ROW
    WHEN (OLD.multiplier_milli <> NEW.multiplier_milli OR OLD.limits <> NEW.limits OR OLD.weight <> NEW.weight)
    EXECUTE FUNCTION tiers_changed();

-- What calls to a model cost from a time on, in millionths of a credit; '*': all models that have no price of their own.
CREATE TABLE prices (
    id                      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model                   text NOT NULL,
    valid_from              timestamptz NOT NULL,
    per_request_micro       bigint NOT NULL DEFAULT 0,
    per_1k_prompt_micro     bigint NOT NULL DEFAULT 0,
    per_1k_completion_micro bigint NOT NULL DEFAULT 0,

    CONSTRAINT prices_begin_once UNIQUE (model, valid_from),
    CONSTRAINT prices_model_form CHECK (model !~ '[[:space:]]' AND char_length(model) BETWEEN 1 AND 300),
    CONSTRAINT prices_valid_from_finite CHECK (isfinite(valid_from) AND valid_from >= '1970-01-01 00:00:00+00'),
    CONSTRAINT prices_range CHECK (per_request_micro BETWEEN 0 AND 1000000000
                                   AND per_1k_prompt_micro BETWEEN 0 AND 1000000000
                                   AND per_1k_completion_micro BETWEEN 0 AND 1000000000)
);

-- One row: the version of all prices together. Its lock puts changes of prices in one order.
CREATE TABLE price_list (
    only_row boolean PRIMARY KEY DEFAULT true,
    version  bigint NOT NULL DEFAULT 1,

    CONSTRAINT price_list_has_one_row CHECK (only_row),
    CONSTRAINT price_list_version_positive CHECK (version >= 1)
);

INSERT INTO price_list DEFAULT VALUES;

CREATE FUNCTION prices_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE price_list SET version = version + 1;
    RETURN NULL;
END
$$;

CREATE TRIGGER prices_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON prices
    FOR EACH STATEMENT EXECUTE FUNCTION prices_changed();

INSERT INTO prices (model, valid_from, per_request_micro) VALUES ('*', '1970-01-01 00:00:00+00', 1000000);

-- The truth about nodes that operators add, or whose setting OLLAMA_BASE_URL they overrule by the same name.
CREATE TABLE backends (
    name       text PRIMARY KEY,
    url        text NOT NULL,
    slots      integer NOT NULL DEFAULT 4,      -- calls at a time, of all replicas together
    weight     integer NOT NULL DEFAULT 100,    -- among equals the heavier one is preferred
    draining   boolean NOT NULL DEFAULT false,  -- gets no new calls
    tags       text[] NOT NULL DEFAULT '{}',
    bearer     text NOT NULL DEFAULT '',        -- secret: sent as Authorization: Bearer; '': none
    ca_pem     text NOT NULL DEFAULT '',        -- certificates that its own is to be signed by; '': the system's
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT backends_url_unique UNIQUE (url),
    CONSTRAINT backends_name_form CHECK (name ~ '^[][0-9A-Za-z._:-]{1,128}$' AND name ~ '^[[0-9A-Za-z]'),
    CONSTRAINT backends_url_form CHECK (url ~ '^https?://[^[:space:]/?#@]+(/[^[:space:]?#]*)?$'
                                        AND char_length(url) <= 500),
    CONSTRAINT backends_slots_range CHECK (slots BETWEEN 1 AND 1024),
    CONSTRAINT backends_weight_range CHECK (weight BETWEEN 1 AND 1000),
    CONSTRAINT backends_tags_form CHECK (words_valid(tags, 32, 64)),
    CONSTRAINT backends_bearer_form CHECK (bearer ~ '^[!-~]*$' AND char_length(bearer) <= 4096),
    CONSTRAINT backends_ca_pem_short CHECK (char_length(ca_pem) <= 65536),
    CONSTRAINT backends_times_finite CHECK (isfinite(created_at) AND isfinite(updated_at))
);

-- Names of the operators' own for models.
CREATE TABLE model_aliases (
    name           text PRIMARY KEY,             -- canonical, as a model's
    targets        text[] NOT NULL,              -- canonical names of models: the first that can be served now answers
    options        jsonb NOT NULL DEFAULT '{}',  -- of sampling, in Ollama's names; they win over the client's
    context_tokens integer,                      -- num_ctx, whatever the client asks for; NULL: the client's
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT model_aliases_name_form CHECK (name ~ '^[0-9a-z][0-9a-z._:/-]{0,199}$'),
    CONSTRAINT model_aliases_targets_form CHECK (cardinality(targets) >= 1 AND words_valid(targets, 16, 200)),
    CONSTRAINT model_aliases_options_form CHECK (jsonb_typeof(options) = 'object'
                                                 AND char_length(options::text) <= 16384),
    CONSTRAINT model_aliases_context_tokens_range CHECK (context_tokens BETWEEN 1 AND 10000000),
    CONSTRAINT model_aliases_times_finite CHECK (isfinite(created_at) AND isfinite(updated_at))
);

-- One row: the version of all nodes and aliases together. Its lock puts their changes in one order.
CREATE TABLE fleet (
    only_row boolean PRIMARY KEY DEFAULT true,
    version  bigint NOT NULL DEFAULT 1,

    CONSTRAINT fleet_has_one_row CHECK (only_row),
    CONSTRAINT fleet_version_positive CHECK (version >= 1)
);

INSERT INTO fleet DEFAULT VALUES;

CREATE FUNCTION fleet_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE fleet SET version = version + 1;
    RETURN NULL;
END
$$;

CREATE TRIGGER backends_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backends
    FOR EACH STATEMENT EXECUTE FUNCTION fleet_changed();

CREATE TRIGGER model_aliases_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON model_aliases
    FOR EACH STATEMENT EXECUTE FUNCTION fleet_changed();

-- The ledger: every credit anybody was ever given, or had taken back. The id is whoever grants it's own: once is once.
CREATE TABLE credit_grants (
    id           text PRIMARY KEY,
    api_key_id   text,
    team_id      text,
    amount_micro bigint NOT NULL,  -- millionths of a credit
    note         text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    granted_by   text NOT NULL,

    CONSTRAINT credit_grants_id_form CHECK (id ~ '^[!-~]{1,128}$'),
    CONSTRAINT credit_grants_to_one CHECK (num_nonnulls(api_key_id, team_id) = 1),
    CONSTRAINT credit_grants_amount_range CHECK (amount_micro BETWEEN -9007199254740991 AND 9007199254740991),
    CONSTRAINT credit_grants_amount_some CHECK (amount_micro <> 0),
    CONSTRAINT credit_grants_note_short CHECK (char_length(note) <= 500),
    CONSTRAINT credit_grants_granted_by_short CHECK (char_length(granted_by) <= 200),
    CONSTRAINT credit_grants_created_at_finite CHECK (isfinite(created_at))
);

CREATE INDEX credit_grants_by_creation ON credit_grants (created_at, id);
CREATE INDEX credit_grants_by_key ON credit_grants (api_key_id, created_at, id) WHERE api_key_id IS NOT NULL;
CREATE INDEX credit_grants_by_team ON credit_grants (team_id, created_at, id) WHERE team_id IS NOT NULL;

CREATE TRIGGER credit_grants_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_grants
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- Who changed what. Holds no key, secret or digest.
CREATE TABLE audit_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor      text NOT NULL,
    action     text NOT NULL,  -- create, update, revoke, rotate, grant, remove
    object     text NOT NULL,  -- key:<id>, team:<id>, tier:<name>, price:<id>
    before     jsonb,          -- NULL: it did not exist
    after      jsonb,          -- NULL: it no longer does
    request_id text NOT NULL,

    CONSTRAINT audit_log_actor_short CHECK (char_length(actor) <= 200),
    CONSTRAINT audit_log_request_id_short CHECK (char_length(request_id) <= 200)
);

CREATE INDEX audit_log_by_object ON audit_log (object, id);

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- Requests of the admin API that came with an Idempotency-Key, for a day.
CREATE TABLE admin_requests (
    idempotency_key text PRIMARY KEY,
    fingerprint     text NOT NULL,             -- hex digest of what was asked
    object          text NOT NULL DEFAULT '',  -- id of what was made
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT admin_requests_idempotency_key_form CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    CONSTRAINT admin_requests_fingerprint_short CHECK (char_length(fingerprint) <= 128)
);

CREATE INDEX admin_requests_by_creation ON admin_requests (created_at);

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
    team_id            text NOT NULL DEFAULT '',   -- the key's team when the call was admitted; '': none
    team_credits_micro bigint NOT NULL DEFAULT 0,  -- millionths of a credit, charged to the team
    dialect text NOT NULL DEFAULT '',         -- whose API was spoken: ollama, openai, anthropic, plain
    queue_ms integer NOT NULL DEFAULT 0,      -- waited for a slot of a node, all tries together
    address_hash text NOT NULL DEFAULT '',    -- the client's address, hashed
    gpu_ms bigint GENERATED ALWAYS AS (load_ms::bigint + prompt_ms + eval_ms) STORED,  -- by the node itself

    CONSTRAINT usage_logs_pkey PRIMARY KEY (created_at, id),
    CONSTRAINT usage_logs_tokens_positive CHECK (prompt_tokens >= 0 AND completion_tokens >= 0),
    CONSTRAINT usage_logs_credits_positive CHECK (credits_micro >= 0),
    CONSTRAINT usage_logs_team_credits_positive CHECK (team_credits_micro >= 0),
    CONSTRAINT usage_logs_month_form CHECK (month ~ '^[0-9]{6}$')
) PARTITION BY RANGE (created_at);

CREATE INDEX usage_logs_by_key ON usage_logs (api_key_id, created_at);
CREATE INDEX usage_logs_by_model ON usage_logs (model, created_at);
CREATE INDEX usage_logs_by_team ON usage_logs (team_id, created_at) WHERE team_id <> '';

-- Takes what no month's partition takes; the worker's upkeep moves it out again.
CREATE TABLE usage_logs_default PARTITION OF usage_logs DEFAULT;

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
CREATE FUNCTION make_usage_partition(day date) RETURNS boolean
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
