-- name: create_team
INSERT INTO teams (id, label, limits, shadow, metered, credits_granted_micro, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: lock_team
SELECT id FROM teams WHERE id = $1 FOR NO KEY UPDATE;

-- name: get_team
SELECT * FROM teams WHERE id = $1;

-- name: teams_before
-- One page, newest first, after the row ($1, $2).
SELECT * FROM teams WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3;

-- name: teams_changed_after
-- One page, by time of change, after the row ($1, $2).
SELECT * FROM teams WHERE (updated_at, id) > ($1, $2) ORDER BY updated_at, id LIMIT $3;

-- name: update_team
UPDATE teams SET label = $2, limits = $3, shadow = $4, metered = $5 WHERE id = $1;

-- name: granted_to_team
SELECT credits_granted_micro, metered FROM teams WHERE id = $1;

-- name: grant_to_team
-- Credits that are taken back do not begin to count.
UPDATE teams SET credits_granted_micro = credits_granted_micro + $2, metered = metered OR $2 > 0 WHERE id = $1
RETURNING metered;

-- name: has_keys_of_team
-- Revoked ones do not count. A key that joins at this moment is not seen; its row and this one's removal exclude each
-- other all the same.
SELECT EXISTS (SELECT FROM api_keys WHERE team_id = $1 AND revoked_at IS NULL);

-- name: forget_team
-- Takes the revoked keys out of it.
UPDATE api_keys SET team_id = NULL WHERE team_id = $1 AND revoked_at IS NOT NULL RETURNING id;

-- name: remove_team
DELETE FROM teams WHERE id = $1;

-- name: spent_by_teams
-- Tokens of the month $2 and credits ever; teams without a row are left out.
SELECT team_id AS id,
       coalesce(sum(prompt_tokens + completion_tokens) FILTER (WHERE month = $2), 0)::bigint AS tokens,
       sum(team_credits_micro)::bigint AS credits_micro
FROM usage_monthly
WHERE team_id = ANY ($1::text[]) AND team_id <> ''
GROUP BY team_id;
