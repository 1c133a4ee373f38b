-- name: lock_aliases
-- No other change of one meanwhile.
LOCK TABLE model_aliases IN SHARE ROW EXCLUSIVE MODE;

-- name: count_aliases
SELECT count(*) FROM model_aliases;

-- name: create_alias
-- No row: the name is taken.
INSERT INTO model_aliases (name, targets, options, context_tokens)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: get_alias
SELECT * FROM model_aliases WHERE name = $1;

-- name: all_aliases
SELECT * FROM model_aliases ORDER BY name COLLATE "C" LIMIT $1;

-- name: update_alias
UPDATE model_aliases SET targets = $2, options = $3, context_tokens = $4, updated_at = clock_timestamp()
WHERE name = $1
RETURNING *;

-- name: remove_alias
DELETE FROM model_aliases WHERE name = $1 RETURNING *;
