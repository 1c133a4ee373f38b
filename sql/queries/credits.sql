-- name: create_grant
-- No row: the id is taken. Waits for whoever is about to take it.
INSERT INTO credit_grants (id, api_key_id, team_id, amount_micro, note, granted_by)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO NOTHING
RETURNING *;

-- name: get_grant
SELECT * FROM credit_grants WHERE id = $1;

-- name: grants_before
-- One page, newest first, after the row ($1, $2), of the key $4, of the team $5, or of all.
SELECT * FROM credit_grants
WHERE (created_at, id) < ($1, $2)
  AND ($4::text IS NULL OR api_key_id = $4)
  AND ($5::text IS NULL OR team_id = $5)
ORDER BY created_at DESC, id DESC
LIMIT $3;

-- name: credit_sums
-- One page, keys and then teams, after the one of the kind $1 with the id $2: its ledger, what its row says, what its
-- calls cost, and the tokens of those of the month $4. Each kind is read along its primary key.
WITH owner AS (
    (SELECT 'key' AS kind, id, id AS api_key_id, NULL AS team_id, metered, credits_granted_micro
     FROM api_keys WHERE $1 = 'key' AND id > $2 ORDER BY id LIMIT $3)
    UNION ALL
    (SELECT 'team', id, NULL, id, metered, credits_granted_micro
     FROM teams WHERE $1 = 'key' OR id > $2 ORDER BY id LIMIT $3)
), page AS (
    SELECT * FROM owner ORDER BY kind, id LIMIT $3
)
SELECT page.*,
       (SELECT coalesce(sum(amount_micro), 0)::bigint FROM credit_grants AS g
        WHERE g.api_key_id = page.api_key_id OR g.team_id = page.team_id) AS ledger_micro,
       coalesce(spent.micro, 0)::bigint AS charged_micro, coalesce(spent.tokens, 0)::bigint AS tokens
FROM page CROSS JOIN LATERAL (
    SELECT sum(credits_micro) AS micro, sum(prompt_tokens + completion_tokens) FILTER (WHERE month = $4) AS tokens
    FROM usage_monthly WHERE api_key_id = page.api_key_id
    HAVING page.kind = 'key'
    UNION ALL
    SELECT sum(team_credits_micro), sum(prompt_tokens + completion_tokens) FILTER (WHERE month = $4)
    FROM usage_monthly WHERE team_id = page.team_id AND team_id <> ''
    HAVING page.kind = 'team'
) AS spent
ORDER BY kind, id;
