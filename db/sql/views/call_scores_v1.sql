-- One wide row per call: who, when, where it stands, how it went. Every value comes from the newest transcript and the
-- current run of each built-in scorecard; a column is null while there is none.
CREATE VIEW call_scores AS
SELECT
    call.id AS call_id, call.source, call.external_id, call.agent_id, call.agent_version, call.direction,
    call.campaign, call.caller_key, call.end_reason,
    coalesce(call.started_at, call.created_at) AS started_at,
    recording.uri, recording.verdict, coalesce(transcript.duration_ms, recording.duration_ms) AS duration_ms,
    status.status, status.reason,
    -- summary
    summary_run.status AS summary_status, summary.summary, summary.outcome, summary.caller_name, summary.service,
    summary.appointment, summary.price, summary.next_step,
    -- sentiment: positive 1, neutral and mixed 0, negative -1; null when unknown
    sentiment_run.status AS sentiment_status, sentiment.overall AS sentiment,
    sentiment.start_mood AS sentiment_start, sentiment.end_mood AS sentiment_end,
    mood.overall AS sentiment_score, mood.at_start AS sentiment_start_score, mood.at_end AS sentiment_end_score,
    mood.at_end - mood.at_start AS sentiment_change,
    -- lead
    lead_run.status AS lead_status, lead.score AS lead_score, lead.tier AS lead_tier, lead.reasons AS lead_reasons,
    lead.rule_version AS lead_rule_version, lead.intent, lead.urgency, lead.budget_fit, lead.authority, lead.timeline,
    lead.commitment, lead.objection,
    -- talk metrics
    metrics.talk_time_agent_ms, metrics.talk_time_caller_ms, metrics.talk_time_total_ms, metrics.non_talk_time_total_ms,
    metrics.interruptions_agent_count, metrics.interruptions_caller_count,
    metrics.agent_response_gap_p50_ms, metrics.agent_response_gap_p95_ms,
    metrics.talk_speed_agent_wpm, metrics.talk_speed_caller_wpm,
    -- where to look further
    transcript.id AS transcript_id, summary_run.run_id AS summary_run_id, sentiment_run.run_id AS sentiment_run_id,
    lead_run.run_id AS lead_run_id, call.metadata, call.created_at
FROM calls call
JOIN call_status status ON status.call_id = call.id
LEFT JOIN recordings recording ON recording.call_id = call.id
LEFT JOIN LATERAL (
    SELECT id, duration_ms FROM transcripts WHERE call_id = call.id ORDER BY id DESC LIMIT 1
) transcript ON true
LEFT JOIN call_metrics metrics ON metrics.transcript_id = transcript.id
LEFT JOIN current_runs summary_run ON summary_run.call_id = call.id AND summary_run.scorecard = 'summary'
LEFT JOIN summary_records summary ON summary.run_id = summary_run.run_id
LEFT JOIN current_runs sentiment_run ON sentiment_run.call_id = call.id AND sentiment_run.scorecard = 'sentiment'
LEFT JOIN sentiment_records sentiment ON sentiment.run_id = sentiment_run.run_id
LEFT JOIN LATERAL (
    SELECT
        CASE sentiment.overall WHEN 'positive' THEN 1 WHEN 'neutral' THEN 0 WHEN 'mixed' THEN 0 WHEN 'negative' THEN -1 END
            AS overall,
        CASE sentiment.start_mood WHEN 'positive' THEN 1 WHEN 'neutral' THEN 0 WHEN 'mixed' THEN 0 WHEN 'negative' THEN -1 END
            AS at_start,
        CASE sentiment.end_mood WHEN 'positive' THEN 1 WHEN 'neutral' THEN 0 WHEN 'mixed' THEN 0 WHEN 'negative' THEN -1 END
            AS at_end
) mood ON true
LEFT JOIN current_runs lead_run ON lead_run.call_id = call.id AND lead_run.scorecard = 'lead_score'
LEFT JOIN lead_records lead ON lead.run_id = lead_run.run_id;
