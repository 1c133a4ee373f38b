-- name: insert_usage
-- One round trip a batch, one array a column. An id counts once: of the same id twice in the batch the first stays,
-- and a row that is there already stays as it is. What is raised besides is made of the rows that are new, and of no
-- other. All in the order of primary keys, so that two workers with overlapping batches cannot deadlock. Returns how many
-- rows are new.
WITH event AS (
    SELECT DISTINCT ON (id) *
    FROM unnest(
        $1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::bigint[], $8::boolean[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::integer[], $14::boolean[], $15::text[],
        $16::integer[], $17::integer[], $18::integer[], $19::integer[], $20::integer[], $21::text[],
        $22::text[], $23::bigint[], $24::text[], $25::integer[], $26::text[]
    ) WITH ORDINALITY AS column_of (
        id, api_key_id, at_ms, month, prompt_tokens, completion_tokens, credits_micro, estimated,
        model, endpoint, backend, status, http_status, streamed, finish_reason,
        response_time_ms, first_token_ms, load_ms, prompt_ms, eval_ms, end_user,
        team_id, team_credits_micro, dialect, queue_ms, address_hash, place
    )
    ORDER BY id, place
), inserted AS (
    INSERT INTO usage_logs (
        id, api_key_id, created_at, month, prompt_tokens, completion_tokens, credits_micro, estimated,
        model, endpoint, backend, status, http_status, streamed, finish_reason,
        response_time_ms, first_token_ms, load_ms, prompt_ms, eval_ms, end_user,
        team_id, team_credits_micro, dialect, queue_ms, address_hash
    )
    SELECT
        id, api_key_id, 'epoch'::timestamptz + at_ms * interval '1 millisecond' AS created_at, month,
        prompt_tokens, completion_tokens, credits_micro, estimated,
        model, endpoint, backend, status, http_status, streamed, finish_reason,
        response_time_ms, first_token_ms, load_ms, prompt_ms, eval_ms, end_user,
        team_id, team_credits_micro, dialect, queue_ms, address_hash
    FROM event
    ORDER BY created_at, id
    ON CONFLICT (created_at, id) DO NOTHING
    RETURNING *
), attempted AS (
    INSERT INTO usage_attempts (call_id, created_at, number, backend, status, queue_ms, response_time_ms)
    SELECT inserted.id, inserted.created_at, tried.number, tried.backend, tried.status, tried.queue_ms, tried.took_ms
    FROM unnest($27::uuid[], $28::integer[], $29::text[], $30::text[], $31::integer[], $32::integer[])
        AS tried (id, number, backend, status, queue_ms, took_ms)
    JOIN inserted USING (id)
    ORDER BY 2, 1, 3
    ON CONFLICT DO NOTHING
), summed AS (
    SELECT
        date_trunc('hour', created_at, 'UTC') AS hour, api_key_id, team_id, model, backend, status,
        count(*) AS calls, count(*) FILTER (WHERE estimated) AS estimated_calls,
        sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
        sum(credits_micro) AS credits_micro, sum(team_credits_micro) AS team_credits_micro,
        sum(response_time_ms) AS response_ms, sum(queue_ms) AS queue_ms, sum(load_ms) AS load_ms,
        sum(prompt_ms) AS prompt_ms, sum(eval_ms) AS eval_ms
    FROM inserted
    GROUP BY 1, 2, 3, 4, 5, 6
), hourly AS (
    INSERT INTO usage_hourly AS sums
    SELECT * FROM summed ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (hour, api_key_id, team_id, model, backend, status) DO UPDATE SET
        calls = sums.calls + excluded.calls,
        estimated_calls = sums.estimated_calls + excluded.estimated_calls,
        prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = sums.completion_tokens + excluded.completion_tokens,
        credits_micro = sums.credits_micro + excluded.credits_micro,
        team_credits_micro = sums.team_credits_micro + excluded.team_credits_micro,
        response_ms = sums.response_ms + excluded.response_ms,
        queue_ms = sums.queue_ms + excluded.queue_ms,
        load_ms = sums.load_ms + excluded.load_ms,
        prompt_ms = sums.prompt_ms + excluded.prompt_ms,
        eval_ms = sums.eval_ms + excluded.eval_ms
), daily AS (
    INSERT INTO usage_daily AS sums
    SELECT
        (hour AT TIME ZONE 'UTC')::date, api_key_id, team_id, model, backend, status,
        sum(calls), sum(estimated_calls), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro),
        sum(team_credits_micro), sum(response_ms), sum(queue_ms), sum(load_ms), sum(prompt_ms), sum(eval_ms)
    FROM summed
    GROUP BY 1, 2, 3, 4, 5, 6
    ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (day, api_key_id, team_id, model, backend, status) DO UPDATE SET
        calls = sums.calls + excluded.calls,
        estimated_calls = sums.estimated_calls + excluded.estimated_calls,
        prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = sums.completion_tokens + excluded.completion_tokens,
        credits_micro = sums.credits_micro + excluded.credits_micro,
        team_credits_micro = sums.team_credits_micro + excluded.team_credits_micro,
        response_ms = sums.response_ms + excluded.response_ms,
        queue_ms = sums.queue_ms + excluded.queue_ms,
        load_ms = sums.load_ms + excluded.load_ms,
        prompt_ms = sums.prompt_ms + excluded.prompt_ms,
        eval_ms = sums.eval_ms + excluded.eval_ms
), monthly AS (
    INSERT INTO usage_monthly AS sums
    SELECT
        month, api_key_id, team_id,
        count(*), sum(prompt_tokens), sum(completion_tokens), sum(credits_micro), sum(team_credits_micro)
    FROM inserted
    GROUP BY 1, 2, 3
    ORDER BY 2, 1, 3
    ON CONFLICT (api_key_id, month, team_id) DO UPDATE SET
        calls = sums.calls + excluded.calls,
        prompt_tokens = sums.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = sums.completion_tokens + excluded.completion_tokens,
        credits_micro = sums.credits_micro + excluded.credits_micro,
        team_credits_micro = sums.team_credits_micro + excluded.team_credits_micro
), timed AS (
    INSERT INTO usage_timings AS sums
    SELECT date_trunc('hour', created_at, 'UTC'), model, what, usage_bucket(ms), count(*)
    FROM inserted CROSS JOIN LATERAL (VALUES
        ('response', CASE WHEN status = 'ok' THEN response_time_ms END),
        ('first_token', CASE WHEN status = 'ok' THEN nullif(first_token_ms, 0) END),
        ('queue', queue_ms)
    ) AS took (what, ms)
    WHERE ms IS NOT NULL
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4
    ON CONFLICT (hour, model, what, bucket) DO UPDATE SET calls = sums.calls + excluded.calls
)
SELECT count(*) FROM inserted;
