-- name: usage_report
-- Sums of usage, grouped by what is named in $1: hour, day, month, key, team, model, backend, status. From $3 (UTC) up to
-- before $4; with $2 from the hours, else from the days. Of a filter ($5 to $9) what is NULL lets everything through. By
-- time, and of one time the most tokens first; $10 groups at most.
WITH grain AS (
    SELECT NULL::timestamptz AS hour, day, api_key_id, team_id, model, backend, status, calls, estimated_calls,
           prompt_tokens, completion_tokens, total_tokens, credits, team_credits,
           response_seconds, queue_seconds, gpu_seconds
    FROM dashboard.daily
    WHERE NOT $2::boolean
      AND day >= ($3::timestamptz AT TIME ZONE 'UTC')::date AND day < ($4::timestamptz AT TIME ZONE 'UTC')::date
    UNION ALL
    SELECT hour, (hour AT TIME ZONE 'UTC')::date, api_key_id, team_id, model, backend, status, calls, estimated_calls,
           prompt_tokens, completion_tokens, total_tokens, credits, team_credits,
           response_seconds, queue_seconds, gpu_seconds
    FROM dashboard.hourly
    WHERE $2 AND hour >= $3 AND hour < $4
), summed AS (
    SELECT CASE WHEN 'hour' = ANY ($1::text[]) THEN hour END AS hour,
           CASE WHEN 'day' = ANY ($1) THEN day END AS day,
           CASE WHEN 'month' = ANY ($1) THEN to_char(day, 'YYYY-MM') END AS month,
           CASE WHEN 'key' = ANY ($1) THEN api_key_id END AS key_id,
           CASE WHEN 'team' = ANY ($1) THEN team_id END AS team_id,
           CASE WHEN 'model' = ANY ($1) THEN model END AS model,
           CASE WHEN 'backend' = ANY ($1) THEN backend END AS backend,
           CASE WHEN 'status' = ANY ($1) THEN grain.status END AS status,
           sum(calls)::bigint AS calls,
           coalesce(sum(calls) FILTER (WHERE grain.status <> 'ok'), 0)::bigint AS failed_calls,
           sum(estimated_calls)::bigint AS estimated_calls,
           sum(prompt_tokens)::bigint AS prompt_tokens,
           sum(completion_tokens)::bigint AS completion_tokens,
           sum(total_tokens)::bigint AS total_tokens,
           sum(credits) AS credits,
           sum(team_credits) AS team_credits,
           sum(response_seconds) / sum(calls) AS avg_response_seconds,
           sum(queue_seconds) AS queue_seconds,
           sum(gpu_seconds) AS gpu_seconds
    FROM grain
    WHERE ($5::text IS NULL OR api_key_id = $5)
      AND ($6::text IS NULL OR team_id = $6)
      AND ($7::text IS NULL OR model = $7)
      AND ($8::text IS NULL OR backend = $8)
      AND ($9::text IS NULL OR grain.status = $9)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
), first AS (
    SELECT row_number() OVER (
               ORDER BY month, day, hour, total_tokens DESC, calls DESC, key_id, team_id, model, backend, status
           ) AS place, *
    FROM summed
    ORDER BY place
    LIMIT $10
)
SELECT first.*, coalesce(k.label, '') AS key_label, coalesce(t.label, '') AS team_label
FROM first
LEFT JOIN api_keys AS k ON k.id = first.key_id
LEFT JOIN teams AS t ON t.id = first.team_id
ORDER BY place;

-- name: months_without_hours
-- The months (YYYY-MM) from $1 up to before $2 (UTC) of which there are days, but no hours any more. The first of each is
-- looked for, not whether there is one: for that it might read all of them.
SELECT to_char(month, 'YYYY-MM') AS month
FROM generate_series(
    date_trunc('month', $1::timestamptz AT TIME ZONE 'UTC'),
    ($2::timestamptz AT TIME ZONE 'UTC') - interval '1 second',
    interval '1 month'
) AS month
WHERE (
    SELECT day FROM dashboard.daily
    WHERE day >= greatest(month::date, ($1 AT TIME ZONE 'UTC')::date)
      AND day < month + interval '1 month' AND day < $2 AT TIME ZONE 'UTC'
    ORDER BY day
    LIMIT 1
) IS NOT NULL AND (
    SELECT hour FROM dashboard.hourly
    WHERE hour >= month AT TIME ZONE 'UTC' AND hour < (month + interval '1 month') AT TIME ZONE 'UTC'
    ORDER BY hour
    LIMIT 1
) IS NULL
ORDER BY 1;

-- name: own_use_by_day
-- What the key $1 has used on each day of the month $2 (UTC, YYYYMM).
SELECT day, sum(calls)::bigint AS calls, sum(prompt_tokens)::bigint AS prompt_tokens,
       sum(completion_tokens)::bigint AS completion_tokens, sum(total_tokens)::bigint AS total_tokens,
       sum(credits) AS credits, sum(gpu_seconds) AS gpu_seconds
FROM dashboard.daily
WHERE api_key_id = $1 AND day >= to_date($2, 'YYYYMM') AND day < to_date($2, 'YYYYMM') + interval '1 month'
GROUP BY day
ORDER BY day;

-- name: own_use_by_model
-- The same of each model, the most tokens first; $3 models at most.
SELECT model, sum(calls)::bigint AS calls, sum(prompt_tokens)::bigint AS prompt_tokens,
       sum(completion_tokens)::bigint AS completion_tokens, sum(total_tokens)::bigint AS total_tokens,
       sum(credits) AS credits, sum(gpu_seconds) AS gpu_seconds
FROM dashboard.daily
WHERE api_key_id = $1 AND day >= to_date($2, 'YYYYMM') AND day < to_date($2, 'YYYYMM') + interval '1 month'
GROUP BY model
ORDER BY 5 DESC, 1
LIMIT $3;
