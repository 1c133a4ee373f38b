-- name: stored_events
-- Which of these events (ids, and their times) are rows.
SELECT u.id FROM unnest($1::uuid[], $2::timestamptz[]) AS event (id, at)
JOIN usage_logs AS u ON u.id = event.id AND u.created_at = event.at;

-- name: month_differences
-- Where the sums of the month $1 (YYYYMM) and those of its days, from $2 to before $3, differ, by key and team: $6 at most.
-- Of the next $5 keys of the month behind the key $4, and of keys in between that the month lacks. One row at least;
-- `upto`: the last of these keys, NULL when there are no more.
WITH page AS (
    SELECT DISTINCT api_key_id FROM usage_monthly WHERE month = $1 AND api_key_id > $4 ORDER BY api_key_id LIMIT $5
), place AS (
    SELECT CASE WHEN count(*) = $5 THEN max(api_key_id) END AS upto FROM page
), monthly AS (
    SELECT api_key_id, team_id,
           ARRAY[sum(calls), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
                 sum(team_credits_micro)]::bigint[] AS figures
    FROM usage_monthly, place
    WHERE month = $1 AND api_key_id > $4 AND (upto IS NULL OR api_key_id <= upto)
    GROUP BY api_key_id, team_id
), daily AS (
    SELECT api_key_id, team_id,
           ARRAY[sum(calls), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
                 sum(team_credits_micro)]::bigint[] AS figures
    FROM usage_daily, place
    WHERE day >= $2 AND day < $3 AND api_key_id > $4 AND (upto IS NULL OR api_key_id <= upto)
    GROUP BY api_key_id, team_id
)
SELECT place.upto, differing.*
FROM place LEFT JOIN (
    SELECT api_key_id, team_id, coalesce(monthly.figures, '{0,0,0,0,0}') AS monthly,
           coalesce(daily.figures, '{0,0,0,0,0}') AS daily
    FROM monthly FULL JOIN daily USING (api_key_id, team_id)
    WHERE monthly.figures IS DISTINCT FROM daily.figures
    ORDER BY api_key_id, team_id
    LIMIT $6
) AS differing ON true;

-- name: day_differences
-- Where the rows of the day $1 (UTC), the sums of its hours and its own sum differ, by key and team: $3 at most. Rows and
-- hours are dropped with their partitions, whose names end with $2 (YYYYMM). One row at least; `rows_kept`: whether rows
-- were compared. NULL instead of figures: they may be gone.
WITH kept AS (
    SELECT rows_kept, rows_kept OR EXISTS (
               SELECT FROM pg_inherits
               WHERE inhrelid = to_regclass('usage_hourly_' || $2) AND inhparent = 'usage_hourly'::regclass
           ) AS hours_kept
    FROM (
        SELECT EXISTS (
            SELECT FROM pg_inherits
            WHERE inhrelid = to_regclass('usage_logs_' || $2) AND inhparent = 'usage_logs'::regclass
        ) AS rows_kept
    ) AS logs
), logged AS (
    SELECT api_key_id, team_id,
           ARRAY[count(*), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
                 sum(team_credits_micro)]::bigint[] AS figures
    FROM usage_logs
    WHERE created_at >= $1::date::timestamp AT TIME ZONE 'UTC'
      AND created_at < ($1::date::timestamp + interval '1 day') AT TIME ZONE 'UTC'
    GROUP BY api_key_id, team_id
), hourly AS (
    SELECT api_key_id, team_id,
           ARRAY[sum(calls), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
                 sum(team_credits_micro)]::bigint[] AS figures
    FROM usage_hourly
    WHERE hour >= $1::date::timestamp AT TIME ZONE 'UTC'
      AND hour < ($1::date::timestamp + interval '1 day') AT TIME ZONE 'UTC'
    GROUP BY api_key_id, team_id
), daily AS (
    SELECT api_key_id, team_id,
           ARRAY[sum(calls), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
                 sum(team_credits_micro)]::bigint[] AS figures
    FROM usage_daily
    WHERE day = $1::date
    GROUP BY api_key_id, team_id
), known AS (
    SELECT api_key_id, team_id, coalesce(daily.figures, '{0,0,0,0,0}') AS daily,
           CASE WHEN hours_kept THEN coalesce(hourly.figures, '{0,0,0,0,0}') END AS hourly,
           CASE WHEN rows_kept THEN coalesce(logged.figures, '{0,0,0,0,0}') END AS logged
    FROM logged FULL JOIN hourly USING (api_key_id, team_id) FULL JOIN daily USING (api_key_id, team_id)
    CROSS JOIN kept
)
SELECT kept.rows_kept, differing.*
FROM kept LEFT JOIN (
    SELECT * FROM known WHERE hourly <> daily OR logged <> daily ORDER BY api_key_id, team_id LIMIT $3
) AS differing ON true;
