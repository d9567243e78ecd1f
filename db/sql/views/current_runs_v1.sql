-- The run that speaks for a call: per call and promoted scorecard, the newest that came to a conclusion. A run that is
-- invalid or failed concludes nothing, so it never hides an earlier good one.
CREATE VIEW current_runs AS
SELECT DISTINCT ON (run.call_id, run.scorecard_id)
    run.call_id,
    scorecard.name AS scorecard,
    scorecard.version AS scorecard_version,
    run.id AS run_id,
    run.transcript_id,
    run.status,
    run.fingerprint,
    run.record,
    run.created_at
FROM analysis_runs run
JOIN scorecards scorecard ON scorecard.id = run.scorecard_id AND scorecard.status = 'promoted'
WHERE run.status IN ('ok', 'not_applicable')
ORDER BY run.call_id, run.scorecard_id, run.id DESC;
