-- Per agent and day (UTC): how many calls, how many booked, how good the leads, how the callers felt, how the talk went.
-- The booked rate is over calls that were scored and had an outcome to reach.
CREATE VIEW agent_daily AS
SELECT
    agent_id,
    (started_at AT TIME ZONE 'UTC')::date AS day,
    count(*) AS calls,
    count(*) FILTER (WHERE status = 'scored') AS scored,
    count(*) FILTER (WHERE outcome = 'booked') AS booked,
    count(*) FILTER (WHERE outcome = 'booked')::float
        / nullif(count(*) FILTER (WHERE outcome <> 'not_applicable'), 0) AS booked_rate,
    avg(lead_score)::float AS mean_lead_score,
    count(*) FILTER (WHERE lead_tier = 'hot') AS hot_leads,
    avg(sentiment_end_score)::float AS mean_sentiment_end,
    avg(sentiment_change)::float AS mean_sentiment_change,
    count(*) FILTER (WHERE sentiment_change < 0) AS sentiment_fell,
    avg(duration_ms)::float AS mean_duration_ms,
    avg(talk_time_agent_ms::float / nullif(talk_time_agent_ms + talk_time_caller_ms, 0)) AS mean_agent_talk_share,
    avg(non_talk_time_total_ms)::float AS mean_non_talk_time_ms,
    avg(interruptions_agent_count)::float AS mean_interruptions_agent,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY agent_response_gap_p50_ms) AS median_response_gap_p50_ms,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY agent_response_gap_p95_ms) AS median_response_gap_p95_ms
FROM call_scores
GROUP BY agent_id, (started_at AT TIME ZONE 'UTC')::date;
