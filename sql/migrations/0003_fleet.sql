-- Nodes and names of models that operators give; the weight of a tier in the waiting line.

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

ALTER TABLE tiers
    ADD COLUMN weight integer NOT NULL DEFAULT 1,  -- share of each of its keys in the waiting line
    ADD CONSTRAINT tiers_weight_range CHECK (weight BETWEEN 1 AND 100);

DROP TRIGGER tiers_changed ON tiers;

CREATE TRIGGER tiers_changed AFTER UPDATE ON tiers FOR EACH ROW
    WHEN (OLD.multiplier_milli <> NEW.multiplier_milli OR OLD.limits <> NEW.limits OR OLD.weight <> NEW.weight)
    EXECUTE FUNCTION tiers_changed();
