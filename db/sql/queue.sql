-- The job queue. Every statement is short and is committed at once: no row lock is held while work is done.
--
-- A job is ready (may be claimed once run_after has passed), leased (one worker holds lease_token until lease_until),
-- done, or dead (failed alone :max_attempts times). Only a failure that a job has alone counts against it: when several
-- jobs are claimed together and the worker dies, nobody knows whose fault it was, so each is given its attempt back
-- and marked to run alone.

-- name: enqueue
-- Ask for a stage of some calls. A call has one live job per stage, so asking again widens the job that waits; one that
-- is leased right now is marked (again): the work is done once more when the lease ends, however it ends.
INSERT INTO jobs (call_id, stage, scorecards, priority, tokens, run_after)
SELECT DISTINCT wanted.call_id, :stage, CAST(:scorecards AS text[]), CAST(:priority AS smallint),
    coalesce((
        SELECT prompt_tokens FROM transcripts t
        WHERE t.call_id = wanted.call_id AND :stage = 'analyze' ORDER BY t.id DESC LIMIT 1
    ), 0),
    now() + make_interval(secs => :delay_s)
FROM unnest(CAST(:call_ids AS bigint[])) AS wanted (call_id)
ORDER BY wanted.call_id  -- two who ask at once lock the rows in the same order
ON CONFLICT (call_id, stage) WHERE state IN ('ready', 'leased') DO UPDATE SET
    scorecards = CASE
        WHEN jobs.scorecards IS NULL OR excluded.scorecards IS NULL THEN NULL
        ELSE ARRAY(SELECT DISTINCT name FROM unnest(jobs.scorecards || excluded.scorecards) AS name ORDER BY name)
    END,
    priority = greatest(jobs.priority, excluded.priority),
    tokens = excluded.tokens,
    run_after = CASE WHEN jobs.state = 'ready' THEN least(jobs.run_after, excluded.run_after) ELSE jobs.run_after END,
    again = (jobs.state = 'leased')
RETURNING id, call_id, state, (xmax = 0) AS created;

-- name: claim
-- Lease up to :limit due jobs of a stage whose tokens together stay within :token_budget (the first is taken whatever
-- its size). A job marked to run alone is claimed alone. Rows that another worker is claiming are stepped over.
WITH candidate AS MATERIALIZED (
    SELECT id, tokens, isolate, priority, run_after
    FROM jobs
    WHERE stage = :stage AND state = 'ready' AND run_after <= now()
    ORDER BY priority DESC, run_after, id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
), ranked AS (
    SELECT id,
        row_number() OVER place AS place,
        sum(tokens) OVER place AS tokens_so_far,
        bool_or(isolate) OVER place AS isolated_so_far
    FROM candidate
    WINDOW place AS (ORDER BY priority DESC, run_after, id)
), chosen AS (
    SELECT id, count(*) OVER () AS batch_size
    FROM ranked
    WHERE place = 1
       OR (NOT isolated_so_far AND tokens_so_far <= coalesce(CAST(:token_budget AS bigint), tokens_so_far))
)
UPDATE jobs SET
    state = 'leased', lease_token = :lease_token, leased_at = now(),
    lease_until = now() + make_interval(secs => :lease_s),
    attempts = attempts + 1, batch_size = chosen.batch_size, worker = :worker
FROM chosen
WHERE jobs.id = chosen.id
RETURNING jobs.id, jobs.call_id, jobs.stage, jobs.scorecards, jobs.tokens, jobs.priority, jobs.attempts,
    jobs.isolate, jobs.batch_size, jobs.lease_token, jobs.lease_until;

-- name: heartbeat
-- Extend the leases that are still held, never past :hard_cap_s after the claim: a hung worker can still beat.
UPDATE jobs SET
    lease_until = least(now() + make_interval(secs => :lease_s), leased_at + make_interval(secs => :hard_cap_s))
WHERE id = ANY (CAST(:ids AS bigint[])) AND lease_token = :lease_token
RETURNING id;

-- name: hold
-- Lock the job rows that this lease still holds, before writing results in the same transaction: a lease that has been
-- taken away returns no row, and a sweep has to wait until the results are committed.
SELECT id FROM jobs
WHERE id = ANY (CAST(:ids AS bigint[])) AND lease_token = :lease_token
ORDER BY id
FOR UPDATE;

-- name: finish
-- The work is done. If it was asked for again meanwhile, that is a job of its own, which owes nothing to what this one
-- stored. No row: the lease was lost, so discard the result.
WITH held AS MATERIALIZED (
    SELECT id, again FROM jobs WHERE id = :id AND lease_token = :lease_token FOR UPDATE
), closed AS (
    UPDATE jobs SET
        state = 'done', finished_at = now(), again = false, error_class = NULL, last_error = NULL,
        lease_token = NULL, lease_until = NULL, leased_at = NULL, batch_size = NULL
    FROM held
    WHERE jobs.id = held.id
    RETURNING jobs.call_id, jobs.stage, jobs.scorecards, jobs.priority, jobs.tokens, held.again AS asked_again
), successor AS (  -- reads from closed, so that a call never has two live jobs at a stage
    INSERT INTO jobs (call_id, stage, scorecards, priority, tokens)
    SELECT call_id, stage, scorecards, priority, tokens FROM closed WHERE asked_again
)
SELECT CASE WHEN again THEN 'ready' ELSE 'done' END AS state FROM held;

-- name: fail
-- The job failed alone: try it again later, or never; at once and from the beginning if it was asked for again
-- meanwhile. No row: the lease was lost.
WITH held AS MATERIALIZED (
    SELECT id, NOT again AND (attempts >= :max_attempts OR :permanent) AS exhausted
    FROM jobs WHERE id = :id AND lease_token = :lease_token FOR UPDATE
)
UPDATE jobs SET
    state = CASE WHEN exhausted THEN 'dead' ELSE 'ready' END,
    finished_at = CASE WHEN exhausted THEN now() END,
    run_after = CASE WHEN again THEN now()
        ELSE now() + make_interval(secs => least(:backoff_cap_s, :backoff_s * 2 ^ (attempts - 1))) END,
    attempts = CASE WHEN again THEN 0 ELSE attempts END,
    again = false, error_class = :error_class, last_error = :error,
    lease_token = NULL, lease_until = NULL, leased_at = NULL, batch_size = NULL
FROM held
WHERE jobs.id = held.id
RETURNING jobs.id, jobs.state;

-- name: isolate
-- A batch failed as a whole: give its members their attempt back and let each run alone. Rows: those still held. A job
-- that was claimed alone is not touched: to refund it would let it fail for ever.
UPDATE jobs SET
    state = 'ready', isolate = true, attempts = CASE WHEN again THEN 0 ELSE attempts - 1 END, run_after = now(),
    again = false, error_class = :error_class, last_error = :error,
    lease_token = NULL, lease_until = NULL, leased_at = NULL, batch_size = NULL
WHERE id = ANY (CAST(:ids AS bigint[])) AND lease_token = :lease_token AND batch_size > 1
RETURNING id, state;

-- name: release
-- Give back leases on work that was not begun, as when a worker shuts down.
UPDATE jobs SET
    state = 'ready', attempts = CASE WHEN again THEN 0 ELSE attempts - 1 END, run_after = now(), again = false,
    lease_token = NULL, lease_until = NULL, leased_at = NULL, batch_size = NULL
WHERE id = ANY (CAST(:ids AS bigint[])) AND lease_token = :lease_token
RETURNING id, state;

-- name: postpone
-- What any job would need is out of order: give these back without blame, and let them wait.
UPDATE jobs SET
    state = 'ready', attempts = CASE WHEN again THEN 0 ELSE attempts - 1 END,
    run_after = now() + make_interval(secs => :delay_s),
    again = false, error_class = :error_class, last_error = :error,
    lease_token = NULL, lease_until = NULL, leased_at = NULL, batch_size = NULL
WHERE id = ANY (CAST(:ids AS bigint[])) AND lease_token = :lease_token
RETURNING id, state;

-- name: sweep
-- Collect expired leases. Members of a batch are isolated with their attempt back; a job that was alone is retried
-- after a pause, or is dead when its attempts are used up. One that was asked for again meanwhile begins anew.
WITH expired AS MATERIALIZED (
    SELECT id, batch_size > 1 AS in_batch, batch_size = 1 AND attempts >= :max_attempts AND NOT again AS exhausted
    FROM jobs
    WHERE state = 'leased' AND lease_until < now()
    FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET
    state = CASE WHEN exhausted THEN 'dead' ELSE 'ready' END,
    finished_at = CASE WHEN exhausted THEN now() END,
    attempts = CASE WHEN again THEN 0 WHEN in_batch THEN attempts - 1 ELSE attempts END,
    isolate = isolate OR in_batch,
    run_after = CASE WHEN in_batch OR again THEN now()
        ELSE now() + make_interval(secs => least(:backoff_cap_s, :backoff_s * 2 ^ (attempts - 1))) END,
    again = false, error_class = 'LeaseExpired',
    last_error = format('worker %s was not heard of after %s', coalesce(worker, 'unknown'), lease_until),
    lease_token = NULL, lease_until = NULL, leased_at = NULL, batch_size = NULL
FROM expired
WHERE jobs.id = expired.id
RETURNING jobs.id, jobs.call_id, jobs.stage, jobs.state, jobs.isolate;

-- name: expire_all
-- Every lease is over: for a supervisor that owns the database and knows that no worker is left.
UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'leased' RETURNING id;

-- name: due
-- Per stage, what could be claimed now, and when the next waiting job becomes due.
SELECT stage,
    count(*) FILTER (WHERE run_after <= now()) AS due,
    coalesce(sum(tokens) FILTER (WHERE run_after <= now()), 0) AS due_tokens,
    coalesce(extract(epoch FROM now() - min(run_after) FILTER (WHERE run_after <= now())), 0) AS oldest_due_s,
    extract(epoch FROM min(run_after) FILTER (WHERE run_after > now()) - now()) AS next_due_in_s
FROM jobs
WHERE state = 'ready'
GROUP BY stage
ORDER BY stage DESC;

-- name: failed_at
-- The stage at which calls failed: that of the dead job which makes the call `failed`.
SELECT status.call_id, job.stage
FROM call_status status
JOIN jobs job ON job.id = status.job_id
WHERE status.status = 'failed' AND status.call_id = ANY (CAST(:call_ids AS bigint[]));
