-- What was analysed is never rewritten: a correction is a new run. Deleting a call still deletes all of it, and a job's
-- deletion may take job_id away.
CREATE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are append-only', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'append_only', TABLE = TG_TABLE_NAME;
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OF
    call_id, transcript_id, scorecard_id, status, error, fingerprint, provenance, record, num_steps, num_tokens, engine_ms
ON analysis_runs EXECUTE FUNCTION refuse_update();
CREATE TRIGGER append_only BEFORE UPDATE ON summary_records EXECUTE FUNCTION refuse_update();
CREATE TRIGGER append_only BEFORE UPDATE ON sentiment_records EXECUTE FUNCTION refuse_update();
CREATE TRIGGER append_only BEFORE UPDATE ON lead_records EXECUTE FUNCTION refuse_update();
CREATE TRIGGER append_only BEFORE UPDATE ON field_evidence EXECUTE FUNCTION refuse_update();
CREATE TRIGGER append_only BEFORE UPDATE ON transcripts EXECUTE FUNCTION refuse_update();
CREATE TRIGGER append_only BEFORE UPDATE ON turns EXECUTE FUNCTION refuse_update();
CREATE TRIGGER append_only BEFORE UPDATE ON call_metrics EXECUTE FUNCTION refuse_update();
