-- name: stored_events
-- Which of these events (ids, and their times) are rows.
SELECT u.id FROM unnest($1::uuid[], $2::timestamptz[]) AS event (id, at)
JOIN usage_logs AS u ON u.id = event.id AND u.created_at = event.at;
