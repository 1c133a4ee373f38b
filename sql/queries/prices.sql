-- name: add_price
-- From now on when no time is given ($2), or one that is not after now. No row: the model has a price from that time on.
INSERT INTO prices (model, valid_from, per_request_micro, per_1k_prompt_micro, per_1k_completion_micro)
VALUES ($1, greatest($2, date_trunc('milliseconds', clock_timestamp())), $3, $4, $5)
ON CONFLICT (model, valid_from) DO NOTHING
RETURNING *;

-- name: get_price
SELECT * FROM prices WHERE id = $1;

-- name: prices_before
-- One page, the latest first, after the row ($1, $2), of the model $4 or of all.
SELECT * FROM prices
WHERE (valid_from, id) < ($1, $2) AND ($4::text IS NULL OR model = $4)
ORDER BY valid_from DESC, id DESC
LIMIT $3;

-- name: remove_price
-- No row: there is none, or it is valid already.
DELETE FROM prices WHERE id = $1 AND valid_from > clock_timestamp() RETURNING *;

-- name: price_list
-- Of each model what will be valid, what is, and what was before that: it still is where the clock is behind this one.
-- With the version of all that: one statement, so one snapshot and one time.
SELECT list.version, price.*
FROM price_list AS list
LEFT JOIN (
    SELECT p.*
    FROM (SELECT *, row_number() OVER (PARTITION BY model ORDER BY valid_from DESC) AS place
          FROM prices WHERE valid_from <= statement_timestamp()) AS begun
    JOIN prices AS p ON p.id = begun.id
    WHERE begun.place <= 2
    UNION ALL
    SELECT * FROM prices WHERE valid_from > statement_timestamp()
) AS price ON true
ORDER BY price.model, price.valid_from
LIMIT $1;
