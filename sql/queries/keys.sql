-- name: create_key
INSERT INTO api_keys (id, label, owner_email, enabled, expires_at, limits, tier, team_id, scopes, models, networks,
                      shadow, metered, credits_granted_micro, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);

-- name: create_secret
INSERT INTO api_key_secrets (api_key_id, digest, pepper_id, last_four, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: lock_key
-- What is read of the row afterwards stays so until the end of the transaction.
SELECT id FROM api_keys WHERE id = $1 FOR NO KEY UPDATE;

-- name: get_key
SELECT k.*, s.secrets
FROM api_keys AS k
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(s ORDER BY s.place DESC), '[]') AS secrets FROM api_key_secrets AS s WHERE s.api_key_id = k.id
) AS s
WHERE k.id = $1;

-- name: keys_before
-- One page, newest first, after the row ($1, $2); of a filter what is NULL lets everything through.
-- $4 is part of the label, whatever its case.
SELECT k.*, s.secrets
FROM api_keys AS k
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(s ORDER BY s.place DESC), '[]') AS secrets FROM api_key_secrets AS s WHERE s.api_key_id = k.id
) AS s
WHERE (k.created_at, k.id) < ($1, $2)
  AND ($4::text IS NULL OR strpos(lower(k.label), lower($4)) > 0)
  AND ($5::text IS NULL OR lower(k.owner_email) = lower($5))
  AND ($6::text IS NULL OR k.team_id = $6)
  AND ($7::text IS NULL OR k.tier = $7)
  AND ($8::boolean IS NULL OR k.enabled = $8)
ORDER BY k.created_at DESC, k.id DESC
LIMIT $3;

-- name: keys_changed_after
-- One page, by time of change, after the row ($1, $2).
SELECT k.*, s.secrets
FROM api_keys AS k
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(s ORDER BY s.place DESC), '[]') AS secrets FROM api_key_secrets AS s WHERE s.api_key_id = k.id
) AS s
WHERE (k.updated_at, k.id) > ($1, $2)
ORDER BY k.updated_at, k.id
LIMIT $3;

-- name: keys_of_tier
-- One page, by id, after the id $2.
SELECT k.*, s.secrets
FROM api_keys AS k
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(s ORDER BY s.place DESC), '[]') AS secrets FROM api_key_secrets AS s WHERE s.api_key_id = k.id
) AS s
WHERE k.tier = $1 AND k.id > $2
ORDER BY k.id
LIMIT $3;

-- name: update_key
UPDATE api_keys
SET label = $2, owner_email = $3, enabled = $4, expires_at = $5, limits = $6, tier = $7, team_id = $8, scopes = $9,
    models = $10, networks = $11, shadow = $12, metered = $13
WHERE id = $1;

-- name: revoke_key
UPDATE api_keys SET enabled = false, revoked_at = clock_timestamp() WHERE id = $1;

-- name: granted_to_key
SELECT credits_granted_micro, metered FROM api_keys WHERE id = $1;

-- name: grant_to_key
-- Credits that are taken back do not begin to count.
UPDATE api_keys SET credits_granted_micro = credits_granted_micro + $2, metered = metered OR $2 > 0 WHERE id = $1
RETURNING metered;

-- name: keep_secret
-- Of the key's secrets only the one with the digest $2; '': none.
DELETE FROM api_key_secrets WHERE api_key_id = $1 AND digest <> $2;

-- name: expire_secrets
-- $2: seconds from now.
UPDATE api_key_secrets SET expires_at = clock_timestamp() + $2 * interval '1 second' WHERE api_key_id = $1;

-- name: touch_key
-- Its version grows.
UPDATE api_keys SET id = id WHERE id = $1;

-- name: spent_by_keys
-- Tokens of the month $2 and credits ever; keys without a row are left out.
SELECT api_key_id AS id,
       coalesce(sum(prompt_tokens + completion_tokens) FILTER (WHERE month = $2), 0)::bigint AS tokens,
       sum(credits_micro)::bigint AS credits_micro
FROM usage_monthly
WHERE api_key_id = ANY ($1::text[])
GROUP BY api_key_id;

-- name: clock
SELECT clock_timestamp();
