-- Where each call is, derived from its recording's verdict and its jobs. Work in progress comes first, so that a call
-- which is being reprocessed says so. See docs/decisions/0002-call-status-is-a-view.md.
CREATE VIEW call_status AS
SELECT call.id AS call_id,
    CASE
        WHEN job.state = 'leased' AND job.stage = 'transcribe' THEN 'transcribing'
        WHEN job.state = 'leased' THEN 'analyzing'
        WHEN job.state = 'ready' AND job.stage = 'transcribe' THEN 'received'
        WHEN job.state = 'ready' THEN 'transcribed'
        WHEN recording.verdict IN ('too_long', 'unsupported', 'empty', 'corrupt', 'missing', 'unreadable') THEN 'rejected'
        WHEN job.state = 'dead' THEN 'failed'
        WHEN job.state = 'done' AND job.stage = 'analyze' THEN 'scored'
        WHEN job.state = 'done' THEN 'transcribed'
        ELSE 'received'
    END AS status,
    CASE
        WHEN job.state IN ('ready', 'leased') THEN job.last_error
        WHEN recording.verdict IN ('too_long', 'unsupported', 'empty', 'corrupt', 'missing', 'unreadable')
            THEN coalesce(recording.verdict_detail, recording.verdict)
        ELSE job.last_error
    END AS reason,
    job.id AS job_id
FROM calls call
LEFT JOIN recordings recording ON recording.call_id = call.id
LEFT JOIN LATERAL (
    -- the earliest live job is what happens next; without one, the newest is what happened last
    SELECT id, stage, state, last_error
    FROM jobs
    WHERE jobs.call_id = call.id
    ORDER BY (state IN ('ready', 'leased')) DESC, (state = 'leased') DESC,
        CASE WHEN state IN ('ready', 'leased') THEN (stage = 'transcribe')::int ELSE id END DESC
    LIMIT 1
) job ON true;
