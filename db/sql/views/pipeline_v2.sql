-- What the pipeline is doing: job rows by stage and state. A dead job that a later one replaced is nobody's concern.
-- Jobs that are put off until later, as after a failure, have not been waiting yet.
CREATE VIEW pipeline_stages AS
SELECT
    stage,
    state,
    count(*) AS jobs,
    count(*) FILTER (WHERE state = 'ready' AND run_after <= now()) AS due,
    count(*) FILTER (WHERE state = 'ready' AND last_error IS NOT NULL) AS retrying,
    count(*) FILTER (WHERE state = 'leased' AND lease_until < now()) AS expired,
    CASE WHEN state IN ('ready', 'leased')
        THEN greatest(extract(epoch FROM now() - min(coalesce(leased_at, run_after))), 0)::float END AS oldest_s
FROM jobs
WHERE state <> 'dead' OR NOT EXISTS (
    SELECT 1 FROM jobs newer
    WHERE newer.call_id = jobs.call_id AND newer.stage = jobs.stage AND newer.id > jobs.id
)
GROUP BY stage, state;

-- Calls that need a person: what failed for good, and what was rejected at the door.
CREATE VIEW pipeline_failures AS
SELECT
    status.call_id, call.source, call.external_id, recording.uri, status.status,
    job.stage, job.attempts, recording.verdict, job.error_class, status.reason,
    coalesce(job.finished_at, recording.checked_at, call.created_at) AS failed_at
FROM call_status status
JOIN calls call ON call.id = status.call_id
LEFT JOIN recordings recording ON recording.call_id = status.call_id
LEFT JOIN jobs job ON job.id = status.job_id
WHERE status.status IN ('failed', 'rejected')
  -- few calls can be either, and two indexes know them; without this every call would be looked at
  AND status.call_id IN (
      SELECT call_id FROM jobs WHERE state = 'dead'
      UNION
      SELECT call_id FROM recordings
      WHERE verdict IN ('too_long', 'unsupported', 'empty', 'corrupt', 'missing', 'unreadable')
  );
