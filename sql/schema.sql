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
CREATE FUNCTION model_limits_valid(document jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
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
CREATE FUNCTION limits_valid(document jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
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
CREATE FUNCTION networks_valid(networks text[]) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
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
CREATE FUNCTION api_key_secrets_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE api_keys SET id = id WHERE id = OLD.api_key_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_key_secrets_changed AFTER UPDATE OR DELETE ON api_key_secrets
    FOR EACH ROW EXECUTE FUNCTION api_key_secrets_changed();

CREATE FUNCTION tiers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE FUNCTION prices_changed() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE FUNCTION fleet_changed() RETURNS trigger LANGUAGE plpgsql AS $$
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
