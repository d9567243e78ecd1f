-- The tables of `aftercall report` and `aftercall status`. Times bound started_at; NULL does not bound.

-- name: overview
SELECT
    count(*) AS calls,
    count(*) FILTER (WHERE status = 'scored') AS scored,
    count(*) FILTER (WHERE status = 'rejected') AS rejected,
    count(*) FILTER (WHERE status = 'failed') AS failed,
    count(*) FILTER (WHERE status NOT IN ('scored', 'rejected', 'failed')) AS in_progress,
    coalesce(sum(duration_ms) / 60000.0, 0)::float AS minutes,
    count(*) FILTER (WHERE outcome = 'booked') AS booked,
    count(*) FILTER (WHERE outcome = 'booked')::float
        / nullif(count(*) FILTER (WHERE outcome <> 'not_applicable'), 0) AS booked_rate,
    avg(lead_score)::float AS mean_lead_score,
    count(*) FILTER (WHERE lead_tier = 'hot') AS hot_leads,
    avg(sentiment_end_score)::float AS mean_sentiment_end,
    count(*) FILTER (WHERE sentiment_change < 0) AS sentiment_fell
FROM call_scores
WHERE (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until);

-- name: by_agent
SELECT
    agent_id,
    count(*) AS calls,
    count(*) FILTER (WHERE status = 'scored') AS scored,
    count(*) FILTER (WHERE outcome = 'booked') AS booked,
    count(*) FILTER (WHERE outcome = 'booked')::float
        / nullif(count(*) FILTER (WHERE outcome <> 'not_applicable'), 0) AS booked_rate,
    avg(lead_score)::float AS mean_lead_score,
    count(*) FILTER (WHERE lead_tier = 'hot') AS hot_leads,
    avg(sentiment_end_score)::float AS mean_sentiment_end,
    count(*) FILTER (WHERE sentiment_change < 0) AS sentiment_fell,
    avg(talk_time_agent_ms::float / nullif(talk_time_agent_ms + talk_time_caller_ms, 0)) AS mean_agent_talk_share,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY agent_response_gap_p50_ms) AS median_response_gap_ms,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY agent_response_gap_p95_ms) AS median_response_gap_p95_ms,
    avg(interruptions_agent_count)::float AS mean_interruptions_agent,
    avg(non_talk_time_total_ms)::float AS mean_non_talk_time_ms
FROM call_scores
WHERE (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
GROUP BY agent_id
ORDER BY calls DESC, agent_id;

-- name: by_day
SELECT
    (started_at AT TIME ZONE 'UTC')::date AS day,
    count(*) AS calls,
    count(*) FILTER (WHERE status = 'scored') AS scored,
    count(*) FILTER (WHERE outcome = 'booked') AS booked,
    avg(lead_score)::float AS mean_lead_score,
    avg(sentiment_end_score)::float AS mean_sentiment_end
FROM call_scores
WHERE (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
GROUP BY 1
ORDER BY 1;

-- name: by_outcome
SELECT outcome AS value, count(*) AS calls, count(*)::float / sum(count(*)) OVER () AS share,
    avg(lead_score)::float AS mean_lead_score, avg(sentiment_end_score)::float AS mean_sentiment_end
FROM call_scores
WHERE outcome IS NOT NULL
  AND (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
GROUP BY outcome
ORDER BY calls DESC, outcome;

-- name: by_intent
SELECT intent AS value, count(*) AS calls, count(*)::float / sum(count(*)) OVER () AS share,
    avg(lead_score)::float AS mean_lead_score, avg(sentiment_end_score)::float AS mean_sentiment_end
FROM call_scores
WHERE intent IS NOT NULL
  AND (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
GROUP BY intent
ORDER BY calls DESC, intent;

-- name: by_sentiment
SELECT sentiment AS value, count(*) AS calls, count(*)::float / sum(count(*)) OVER () AS share,
    avg(lead_score)::float AS mean_lead_score, avg(sentiment_end_score)::float AS mean_sentiment_end
FROM call_scores
WHERE sentiment IS NOT NULL
  AND (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
GROUP BY sentiment
ORDER BY calls DESC, sentiment;

-- name: by_verdict
SELECT verdict AS value, count(*) AS calls, count(*)::float / sum(count(*)) OVER () AS share,
    avg(lead_score)::float AS mean_lead_score, avg(sentiment_end_score)::float AS mean_sentiment_end
FROM call_scores
WHERE verdict IS NOT NULL
  AND (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
GROUP BY verdict
ORDER BY calls DESC, verdict;

-- name: hot_leads
SELECT call_id, external_id, agent_id, started_at, caller_name, service, lead_score, lead_tier, lead_reasons, outcome,
    intent, urgency, next_step, summary
FROM call_scores
WHERE (lead_score >= :min_score OR (CAST(:min_score AS integer) IS NULL AND lead_tier = 'hot'))
  AND (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
ORDER BY lead_score DESC, started_at DESC
LIMIT :limit;

-- name: sentiment_falls
SELECT call_id, external_id, agent_id, started_at, sentiment_start, sentiment_end, sentiment_change, outcome, summary
FROM call_scores
WHERE sentiment_change < 0
  AND (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
ORDER BY sentiment_change, started_at DESC
LIMIT :limit;

-- name: call_list
SELECT call_id, source, external_id, agent_id, started_at, duration_ms, verdict, status, reason, outcome, sentiment,
    lead_score, lead_tier, intent, summary
FROM call_scores
WHERE (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
ORDER BY started_at, call_id
LIMIT :limit;

-- name: pipeline
SELECT stage, state, jobs, due, retrying, expired, oldest_s
FROM pipeline_stages
ORDER BY array_position(ARRAY['transcribe', 'analyze'], stage),
    array_position(ARRAY['ready', 'leased', 'done', 'dead'], state);

-- name: pipeline_calls
SELECT status, count(*) AS calls
FROM call_status
GROUP BY status
ORDER BY array_position(
    ARRAY['received', 'transcribing', 'transcribed', 'analyzing', 'scored', 'rejected', 'failed'], status
);

-- name: pipeline_failures
SELECT call_id, source, external_id, uri, status, stage, attempts, verdict, error_class, reason, failed_at
FROM pipeline_failures
ORDER BY failed_at DESC, call_id DESC
LIMIT :limit;

-- name: runs_by_scorecard
SELECT scorecard.name AS scorecard, scorecard.version, run.status, count(*) AS runs,
    avg(run.engine_ms)::float AS mean_engine_ms, avg(run.num_steps)::float AS mean_steps
FROM analysis_runs run
JOIN scorecards scorecard ON scorecard.id = run.scorecard_id
WHERE (CAST(:since AS timestamptz) IS NULL OR run.created_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR run.created_at < :until)
GROUP BY scorecard.name, scorecard.version, run.status
ORDER BY scorecard.name, scorecard.version, run.status;
