-- name: create_key
INSERT INTO api_keys (id, digest, last_four, label, owner_email, enabled, expires_at, rate_limit_per_min,
                      tokens_per_min, concurrency, monthly_token_limit, credits_granted_micro, version, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
RETURNING *;

-- name: get_key
SELECT * FROM api_keys WHERE id = $1;

-- name: keys_before
-- One page, newest first, after the row ($1, $2).
SELECT * FROM api_keys WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3;

-- name: keys_changed_after
-- One page, by time of change, after the row ($1, $2).
SELECT * FROM api_keys WHERE (updated_at, id) > ($1, $2) ORDER BY updated_at, id LIMIT $3;

-- name: revoke_key
-- No row: there is no such key, or it is revoked already.
UPDATE api_keys SET enabled = false, revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL RETURNING *;

-- name: spent_by_keys
-- Tokens of the month $2 and credits ever; keys without a row are left out.
SELECT api_key_id,
       coalesce(sum(total_tokens) FILTER (WHERE month = $2), 0)::bigint AS tokens,
       sum(credits_micro)::bigint AS credits_micro
FROM usage_logs
WHERE api_key_id = ANY ($1::text[])
GROUP BY api_key_id;

-- name: clock
SELECT clock_timestamp();
