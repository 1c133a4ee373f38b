-- name: write_audit
INSERT INTO audit_log (actor, action, object, before, after, request_id) VALUES ($1, $2, $3, $4, $5, $6);

-- name: audit_before
-- One page, newest first, after the row $1; of a filter what is NULL lets everything through.
SELECT * FROM audit_log
WHERE id < $1
  AND ($3::text IS NULL OR object = $3)
  AND ($4::text IS NULL OR action = $4)
  AND ($5::text IS NULL OR actor = $5)
ORDER BY id DESC
LIMIT $2;

-- name: claim_request
-- No row: somebody has claimed it. Waits for whoever is about to.
INSERT INTO admin_requests (idempotency_key, fingerprint) VALUES ($1, $2)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING idempotency_key;

-- name: claimed_request
SELECT fingerprint, object FROM admin_requests WHERE idempotency_key = $1;

-- name: answer_request
UPDATE admin_requests SET object = $2 WHERE idempotency_key = $1;

-- name: forget_requests
-- $1: hours they are remembered; $2: how many are forgotten at most.
DELETE FROM admin_requests
WHERE idempotency_key IN (
    SELECT idempotency_key FROM admin_requests
    WHERE created_at < now() - $1 * interval '1 hour'
    ORDER BY created_at
    LIMIT $2
);
