-- name: lock_tiers
-- No other tier appears meanwhile.
LOCK TABLE tiers IN SHARE ROW EXCLUSIVE MODE;

-- name: count_tiers
SELECT count(*) FROM tiers;

-- name: create_tier
-- No row: the name is taken.
INSERT INTO tiers (name, multiplier_milli, limits, weight) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING RETURNING *;

-- name: lock_tier
SELECT name FROM tiers WHERE name = $1 FOR NO KEY UPDATE;

-- name: hold_tier
-- It does not change before the end of the transaction, so that either that change or this transaction comes first.
SELECT name FROM tiers WHERE name = $1 FOR SHARE;

-- name: get_tier
SELECT * FROM tiers WHERE name = $1;

-- name: all_tiers
SELECT * FROM tiers ORDER BY name LIMIT $1;

-- name: tiers_named
SELECT * FROM tiers WHERE name = ANY ($1::text[]);

-- name: update_tier
UPDATE tiers SET multiplier_milli = $2, limits = $3, weight = $4, updated_at = clock_timestamp() WHERE name = $1;

-- name: has_keys_of_tier
-- A key that joins at this moment is not seen; its row and this one's removal exclude each other all the same.
SELECT EXISTS (SELECT FROM api_keys WHERE tier = $1);

-- name: remove_tier
DELETE FROM tiers WHERE name = $1;
