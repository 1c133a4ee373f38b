-- name: insert_usage
-- One round trip a batch, one array a column. An id counts once: of the same id twice in the batch the first stays,
-- and a row that is there already stays as it is. Sorted by the primary key, so that two workers with overlapping
-- batches cannot deadlock. Returns how many rows are new.
WITH event AS (
    SELECT DISTINCT ON (id) *
    FROM unnest(
        $1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::bigint[], $8::boolean[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::integer[], $14::boolean[], $15::text[],
        $16::integer[], $17::integer[], $18::integer[], $19::integer[], $20::integer[], $21::text[],
        $22::text[], $23::bigint[]
    ) WITH ORDINALITY AS column_of (
        id, api_key_id, at_ms, month, prompt_tokens, completion_tokens, credits_micro, estimated,
        model, endpoint, backend, status, http_status, streamed, finish_reason,
        response_time_ms, first_token_ms, load_ms, prompt_ms, eval_ms, end_user,
        team_id, team_credits_micro, place
    )
    ORDER BY id, place
), inserted AS (
    INSERT INTO usage_logs (
        id, api_key_id, created_at, month, prompt_tokens, completion_tokens, credits_micro, estimated,
        model, endpoint, backend, status, http_status, streamed, finish_reason,
        response_time_ms, first_token_ms, load_ms, prompt_ms, eval_ms, end_user,
        team_id, team_credits_micro
    )
    SELECT
        id, api_key_id, 'epoch'::timestamptz + at_ms * interval '1 millisecond' AS created_at, month,
        prompt_tokens, completion_tokens, credits_micro, estimated,
        model, endpoint, backend, status, http_status, streamed, finish_reason,
        response_time_ms, first_token_ms, load_ms, prompt_ms, eval_ms, end_user,
        team_id, team_credits_micro
    FROM event
    ORDER BY created_at, id
    ON CONFLICT (created_at, id) DO NOTHING
    RETURNING id
)
SELECT count(*) FROM inserted;
