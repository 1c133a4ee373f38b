-- Limits as documents, tiers, teams, prices, the ledger of credits, rotating secrets, the audit log.

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

ALTER FUNCTION api_keys_changed() RENAME TO row_changed;

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

    CONSTRAINT tiers_name_form CHECK (name ~ '^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$'),
    CONSTRAINT tiers_multiplier_range CHECK (multiplier_milli BETWEEN 0 AND 100000),
    CONSTRAINT tiers_limits_form CHECK (limits_valid(limits)),
    CONSTRAINT tiers_times_finite CHECK (isfinite(created_at) AND isfinite(updated_at))
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

ALTER TABLE api_keys
    ADD COLUMN limits   jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN tier     text,
    ADD COLUMN team_id  text,
    ADD COLUMN scopes   text[] NOT NULL DEFAULT '{inference}',
    ADD COLUMN models   text[] NOT NULL DEFAULT '{}',   -- globs of canonical names; none: all
    ADD COLUMN networks text[] NOT NULL DEFAULT '{}',   -- CIDRs; none: anywhere
    ADD COLUMN shadow   boolean NOT NULL DEFAULT false, -- limits are counted and refuse nobody
    ADD COLUMN metered  boolean NOT NULL DEFAULT false; -- whether calls are charged to its credits

-- Every row, so that every version grows and the new records replace the old ones in Redis.
UPDATE api_keys SET
    limits = jsonb_build_object(
        'rate_limit_per_min', rate_limit_per_min,
        'tokens_per_min', tokens_per_min,
        'concurrency', CASE WHEN concurrency IS NOT NULL THEN least(concurrency, 10000) END,
        'monthly_token_limit', CASE WHEN monthly_token_limit IS NOT NULL
                                    THEN greatest(1, least(monthly_token_limit, 1000000000000)) END),
    metered = credits_granted_micro IS NOT NULL,
    credits_granted_micro = coalesce(credits_granted_micro, 0);

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

INSERT INTO api_key_secrets (api_key_id, digest, last_four, created_at)
    SELECT id, digest, right(last_four, 4), created_at FROM api_keys ORDER BY created_at, id;

ALTER TABLE api_keys
    DROP COLUMN digest,
    DROP COLUMN last_four,
    DROP COLUMN rate_limit_per_min,
    DROP COLUMN tokens_per_min,
    DROP COLUMN concurrency,
    DROP COLUMN monthly_token_limit,
    ALTER COLUMN credits_granted_micro SET DEFAULT 0,
    ALTER COLUMN credits_granted_micro SET NOT NULL,
    ADD CONSTRAINT api_keys_tier_exists FOREIGN KEY (tier) REFERENCES tiers (name),
    ADD CONSTRAINT api_keys_team_exists FOREIGN KEY (team_id) REFERENCES teams (id),
    ADD CONSTRAINT api_keys_limits_form CHECK (limits_valid(limits)),
    -- None would allow everything.
    ADD CONSTRAINT api_keys_scopes_known CHECK (cardinality(scopes) > 0 AND scopes <@ '{inference,pull}'),
    ADD CONSTRAINT api_keys_models_form CHECK (words_valid(models, 64, 200)),
    ADD CONSTRAINT api_keys_networks_form CHECK (networks_valid(networks));

CREATE INDEX api_keys_by_tier ON api_keys (tier, id) WHERE tier IS NOT NULL;
CREATE INDEX api_keys_by_team ON api_keys (team_id, id) WHERE team_id IS NOT NULL;

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
    WHEN (OLD.multiplier_milli <> NEW.multiplier_milli OR OLD.limits <> NEW.limits)
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

INSERT INTO credit_grants (id, api_key_id, amount_micro, note, created_at, granted_by)
    SELECT 'opening-' || id, id, credits_granted_micro, 'from before there was a ledger', created_at, 'migration'
    FROM api_keys WHERE credits_granted_micro > 0 ORDER BY id;

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

ALTER TABLE usage_logs
    ADD COLUMN team_id            text NOT NULL DEFAULT '',   -- the key's team when the call was admitted; '': none
    ADD COLUMN team_credits_micro bigint NOT NULL DEFAULT 0,  -- millionths of a credit, charged to the team
    ADD CONSTRAINT usage_logs_team_credits_positive CHECK (team_credits_micro >= 0);

CREATE INDEX usage_logs_by_team ON usage_logs (team_id, created_at) WHERE team_id <> '';
