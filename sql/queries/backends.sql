-- name: lock_backends
-- No other change of one meanwhile.
LOCK TABLE backends IN SHARE ROW EXCLUSIVE MODE;

-- name: count_backends
SELECT count(*) FROM backends;

-- name: create_backend
-- No row: the name or the URL is taken.
INSERT INTO backends (name, url, slots, weight, draining, tags, bearer, ca_pem)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: get_backend
SELECT * FROM backends WHERE name = $1;

-- name: all_backends
SELECT * FROM backends ORDER BY name COLLATE "C" LIMIT $1;

-- name: update_backend
UPDATE backends SET
    slots = $2, weight = $3, draining = $4, tags = $5, bearer = $6, ca_pem = $7, updated_at = clock_timestamp()
WHERE name = $1
RETURNING *;

-- name: remove_backend
DELETE FROM backends WHERE name = $1 RETURNING *;

-- name: registry
-- All nodes and aliases with the version of all that: one statement, so one snapshot.
SELECT fleet.version,
    coalesce((SELECT json_agg(node ORDER BY node.name COLLATE "C")
              FROM (SELECT name, url, slots, weight, draining, tags, bearer, ca_pem FROM backends) AS node), '[]') AS nodes,
    coalesce((SELECT json_agg(alias ORDER BY alias.name COLLATE "C")
              FROM (SELECT name, targets, options, context_tokens FROM model_aliases) AS alias), '[]') AS aliases
FROM fleet;
