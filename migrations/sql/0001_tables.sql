-- The tables as of migration 0001. Never edited: a later change is a later migration.

CREATE TABLE calls (
    id bigint GENERATED ALWAYS AS IDENTITY,
    source text NOT NULL,
    external_id text NOT NULL,
    agent_id text,
    agent_version text,
    direction text DEFAULT 'unknown' NOT NULL,
    started_at timestamptz,
    campaign text,
    caller_key text,
    end_reason text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_calls PRIMARY KEY (id),
    CONSTRAINT uq_calls_source_external_id UNIQUE (source, external_id),
    CONSTRAINT ck_calls_direction_known CHECK (direction IN ('inbound', 'outbound', 'unknown')),
    CONSTRAINT ck_calls_source_not_empty CHECK (source <> ''),
    CONSTRAINT ck_calls_external_id_not_empty CHECK (external_id <> ''),
    CONSTRAINT ck_calls_metadata_is_object CHECK (jsonb_typeof(metadata) = 'object')
);

CREATE INDEX ix_calls_agent_id_started_at ON calls (agent_id, started_at);
CREATE INDEX ix_calls_caller_key ON calls (caller_key) WHERE caller_key IS NOT NULL;
CREATE INDEX ix_calls_started_at ON calls (coalesce(started_at, created_at));

CREATE TABLE recordings (
    id bigint GENERATED ALWAYS AS IDENTITY,
    call_id bigint NOT NULL,
    uri text NOT NULL,
    sha256 text,
    size_bytes bigint,
    container text,
    codec text,
    sample_rate integer,
    channels integer,
    duration_ms integer,
    agent_channel integer,
    verdict text,
    verdict_detail text,
    checked_at timestamptz,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_recordings PRIMARY KEY (id),
    CONSTRAINT uq_recordings_call_id UNIQUE (call_id),
    CONSTRAINT uq_recordings_sha256 UNIQUE (sha256),
    CONSTRAINT ck_recordings_verdict_known CHECK (
        verdict IN ('ok', 'mono', 'identical_channels', 'silent_channel', 'truncated', 'too_long', 'unsupported',
            'empty', 'corrupt', 'missing', 'unreadable')
    ),
    CONSTRAINT ck_recordings_sha256_hex CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_recordings_sha256_or_unread CHECK (sha256 IS NOT NULL OR verdict IN ('missing', 'unreadable')),
    CONSTRAINT ck_recordings_size_bytes_range CHECK (size_bytes >= 0),
    CONSTRAINT ck_recordings_duration_ms_range CHECK (duration_ms >= 0),
    CONSTRAINT ck_recordings_sample_rate_range CHECK (sample_rate >= 1),
    CONSTRAINT ck_recordings_channels_range CHECK (channels >= 1),
    CONSTRAINT ck_recordings_agent_channel_range CHECK (agent_channel BETWEEN 0 AND 1),
    CONSTRAINT fk_recordings_call_id FOREIGN KEY (call_id) REFERENCES calls (id) ON DELETE CASCADE
);

CREATE INDEX ix_recordings_verdict ON recordings (verdict);

CREATE TABLE transcripts (
    id bigint GENERATED ALWAYS AS IDENTITY,
    call_id bigint NOT NULL,
    recording_id bigint NOT NULL,
    language text NOT NULL,
    duration_ms integer NOT NULL,
    is_empty boolean NOT NULL,
    prompt_tokens integer NOT NULL,
    fingerprint text NOT NULL,
    provenance jsonb NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_transcripts PRIMARY KEY (id),
    CONSTRAINT ck_transcripts_fingerprint_not_empty CHECK (fingerprint <> ''),
    CONSTRAINT ck_transcripts_duration_ms_range CHECK (duration_ms >= 0),
    CONSTRAINT ck_transcripts_prompt_tokens_range CHECK (prompt_tokens >= 0),
    CONSTRAINT fk_transcripts_call_id FOREIGN KEY (call_id) REFERENCES calls (id) ON DELETE CASCADE,
    CONSTRAINT fk_transcripts_recording_id FOREIGN KEY (recording_id) REFERENCES recordings (id) ON DELETE CASCADE
);

CREATE INDEX ix_transcripts_call_id_id ON transcripts (call_id, id DESC);
CREATE INDEX ix_transcripts_recording_id ON transcripts (recording_id);

CREATE TABLE turns (
    transcript_id bigint NOT NULL,
    number integer NOT NULL,
    role text NOT NULL,
    start_ms integer NOT NULL,
    end_ms integer NOT NULL,
    text text NOT NULL,
    confidence double precision NOT NULL,
    CONSTRAINT pk_turns PRIMARY KEY (transcript_id, number),
    CONSTRAINT ck_turns_role_known CHECK (role IN ('agent', 'caller', 'unknown')),
    CONSTRAINT ck_turns_number_range CHECK (number >= 1),
    CONSTRAINT ck_turns_start_ms_range CHECK (start_ms >= 0),
    CONSTRAINT ck_turns_end_after_start CHECK (end_ms >= start_ms),
    CONSTRAINT ck_turns_confidence_range CHECK (confidence BETWEEN 0 AND 1),
    CONSTRAINT fk_turns_transcript_id FOREIGN KEY (transcript_id) REFERENCES transcripts (id) ON DELETE CASCADE
);

CREATE TABLE call_metrics (
    transcript_id bigint NOT NULL,
    talk_time_agent_ms integer NOT NULL,
    talk_time_caller_ms integer NOT NULL,
    talk_time_total_ms integer NOT NULL,
    non_talk_time_total_ms integer NOT NULL,
    interruptions_agent_count integer NOT NULL,
    interruptions_caller_count integer NOT NULL,
    agent_response_gap_p50_ms integer,
    agent_response_gap_p95_ms integer,
    talk_speed_agent_wpm double precision,
    talk_speed_caller_wpm double precision,
    CONSTRAINT pk_call_metrics PRIMARY KEY (transcript_id),
    CONSTRAINT ck_call_metrics_talk_time_agent_ms_range CHECK (talk_time_agent_ms >= 0),
    CONSTRAINT ck_call_metrics_talk_time_caller_ms_range CHECK (talk_time_caller_ms >= 0),
    CONSTRAINT ck_call_metrics_talk_time_total_ms_range CHECK (talk_time_total_ms >= 0),
    CONSTRAINT ck_call_metrics_non_talk_time_total_ms_range CHECK (non_talk_time_total_ms >= 0),
    CONSTRAINT ck_call_metrics_interruptions_agent_count_range CHECK (interruptions_agent_count >= 0),
    CONSTRAINT ck_call_metrics_interruptions_caller_count_range CHECK (interruptions_caller_count >= 0),
    CONSTRAINT ck_call_metrics_agent_response_gap_p50_ms_range CHECK (agent_response_gap_p50_ms >= 0),
    CONSTRAINT ck_call_metrics_agent_response_gap_p95_ms_range CHECK (agent_response_gap_p95_ms >= 0),
    CONSTRAINT ck_call_metrics_talk_speed_agent_wpm_range CHECK (talk_speed_agent_wpm >= 0),
    CONSTRAINT ck_call_metrics_talk_speed_caller_wpm_range CHECK (talk_speed_caller_wpm >= 0),
    CONSTRAINT fk_call_metrics_transcript_id FOREIGN KEY (transcript_id) REFERENCES transcripts (id) ON DELETE CASCADE
);

CREATE TABLE scorecards (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL,
    status text DEFAULT 'draft' NOT NULL,
    instructions text NOT NULL,
    output_schema json NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_scorecards PRIMARY KEY (id),
    CONSTRAINT uq_scorecards_name_version UNIQUE (name, version),
    CONSTRAINT ck_scorecards_kind_known CHECK (kind IN ('builtin', 'custom')),
    CONSTRAINT ck_scorecards_status_known CHECK (status IN ('draft', 'candidate', 'promoted', 'retired')),
    CONSTRAINT ck_scorecards_name_identifier CHECK (name ~ '^[a-z][a-z0-9_]*$'),
    CONSTRAINT ck_scorecards_version_range CHECK (version >= 1)
);

CREATE UNIQUE INDEX uq_scorecards_one_promoted ON scorecards (name) WHERE status = 'promoted';

CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    call_id bigint NOT NULL,
    stage text NOT NULL,
    state text DEFAULT 'ready' NOT NULL,
    scorecards text[],
    priority smallint DEFAULT '0' NOT NULL,
    tokens integer DEFAULT '0' NOT NULL,
    run_after timestamptz DEFAULT now() NOT NULL,
    attempts integer DEFAULT '0' NOT NULL,
    isolate boolean DEFAULT false NOT NULL,
    again boolean DEFAULT false NOT NULL,
    lease_token uuid,
    lease_until timestamptz,
    leased_at timestamptz,
    batch_size integer,
    worker text,
    error_class text,
    last_error text,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT ck_jobs_stage_known CHECK (stage IN ('transcribe', 'analyze')),
    CONSTRAINT ck_jobs_state_known CHECK (state IN ('ready', 'leased', 'done', 'dead')),
    CONSTRAINT ck_jobs_attempts_range CHECK (attempts >= 0),
    CONSTRAINT ck_jobs_tokens_range CHECK (tokens >= 0),
    CONSTRAINT ck_jobs_batch_size_range CHECK (batch_size >= 1),
    CONSTRAINT ck_jobs_scorecards_not_empty CHECK (cardinality(scorecards) > 0),
    CONSTRAINT ck_jobs_scorecards_only_analyze CHECK (scorecards IS NULL OR stage = 'analyze'),
    CONSTRAINT ck_jobs_lease_only_when_leased CHECK (
        (state = 'leased') = (lease_token IS NOT NULL)
        AND (state = 'leased') = (lease_until IS NOT NULL)
        AND (state = 'leased') = (leased_at IS NOT NULL)
        AND (state = 'leased') = (batch_size IS NOT NULL)
    ),
    CONSTRAINT ck_jobs_again_only_when_leased CHECK (state = 'leased' OR NOT again),
    CONSTRAINT ck_jobs_finished CHECK ((state IN ('done', 'dead')) = (finished_at IS NOT NULL)),
    CONSTRAINT ck_jobs_dead_has_error CHECK (state <> 'dead' OR last_error IS NOT NULL),
    CONSTRAINT fk_jobs_call_id FOREIGN KEY (call_id) REFERENCES calls (id) ON DELETE CASCADE
);

CREATE INDEX ix_jobs_call_id_id ON jobs (call_id, id DESC);
CREATE INDEX ix_jobs_dead ON jobs (finished_at) WHERE state = 'dead';
CREATE INDEX ix_jobs_leased ON jobs (lease_until) WHERE state = 'leased';
CREATE INDEX ix_jobs_ready ON jobs (stage, priority DESC, run_after, id) WHERE state = 'ready';
CREATE UNIQUE INDEX uq_jobs_one_live ON jobs (call_id, stage) WHERE state IN ('ready', 'leased');
-- Every job row is updated several times; the default of 20 % dead rows would leave the indexes full of them.
ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.01);

CREATE TABLE analysis_runs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    call_id bigint NOT NULL,
    transcript_id bigint NOT NULL,
    scorecard_id bigint NOT NULL,
    job_id bigint,
    status text NOT NULL,
    error text,
    fingerprint text NOT NULL,
    provenance jsonb NOT NULL,
    record jsonb,
    num_steps integer,
    num_tokens integer,
    engine_ms double precision,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_analysis_runs PRIMARY KEY (id),
    CONSTRAINT ck_analysis_runs_status_known CHECK (status IN ('ok', 'invalid', 'not_applicable', 'failed')),
    CONSTRAINT ck_analysis_runs_ok_has_no_error CHECK (status <> 'ok' OR error IS NULL),
    CONSTRAINT ck_analysis_runs_bad_has_error CHECK (status NOT IN ('invalid', 'failed') OR error IS NOT NULL),
    CONSTRAINT ck_analysis_runs_record_only_when_ok CHECK (record IS NULL OR status = 'ok'),
    CONSTRAINT ck_analysis_runs_fingerprint_not_empty CHECK (fingerprint <> ''),
    CONSTRAINT ck_analysis_runs_num_steps_range CHECK (num_steps >= 0),
    CONSTRAINT ck_analysis_runs_num_tokens_range CHECK (num_tokens >= 0),
    CONSTRAINT ck_analysis_runs_engine_ms_range CHECK (engine_ms >= 0),
    CONSTRAINT fk_analysis_runs_call_id FOREIGN KEY (call_id) REFERENCES calls (id) ON DELETE CASCADE,
    CONSTRAINT fk_analysis_runs_transcript_id FOREIGN KEY (transcript_id) REFERENCES transcripts (id) ON DELETE CASCADE,
    CONSTRAINT fk_analysis_runs_scorecard_id FOREIGN KEY (scorecard_id) REFERENCES scorecards (id),
    CONSTRAINT fk_analysis_runs_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE SET NULL
);

CREATE INDEX ix_analysis_runs_call_id ON analysis_runs (call_id);
CREATE INDEX ix_analysis_runs_created_at ON analysis_runs (created_at);
CREATE INDEX ix_analysis_runs_current ON analysis_runs (call_id, scorecard_id, id DESC)
    WHERE status IN ('ok', 'not_applicable');
CREATE INDEX ix_analysis_runs_transcript_id ON analysis_runs (transcript_id);
CREATE UNIQUE INDEX uq_analysis_runs_once_per_job ON analysis_runs (job_id, scorecard_id, transcript_id, fingerprint)
    WHERE status <> 'failed';

CREATE TABLE summary_records (
    run_id bigint NOT NULL,
    summary text NOT NULL,
    outcome text NOT NULL,
    caller_name text,
    service text,
    appointment text,
    price text,
    next_step text,
    CONSTRAINT pk_summary_records PRIMARY KEY (run_id),
    CONSTRAINT ck_summary_records_outcome_known CHECK (
        outcome IN ('booked', 'rescheduled', 'cancelled', 'message_taken', 'transferred', 'answered', 'declined',
            'unresolved', 'not_applicable')
    ),
    CONSTRAINT ck_summary_records_summary_not_empty CHECK (summary <> ''),
    CONSTRAINT fk_summary_records_run_id FOREIGN KEY (run_id) REFERENCES analysis_runs (id) ON DELETE CASCADE
);

CREATE INDEX ix_summary_records_outcome ON summary_records (outcome);

CREATE TABLE sentiment_records (
    run_id bigint NOT NULL,
    overall text NOT NULL,
    start_mood text NOT NULL,
    end_mood text NOT NULL,
    CONSTRAINT pk_sentiment_records PRIMARY KEY (run_id),
    CONSTRAINT ck_sentiment_records_overall_known CHECK (
        overall IN ('positive', 'neutral', 'negative', 'mixed', 'unknown', 'not_applicable')
    ),
    CONSTRAINT ck_sentiment_records_start_mood_known CHECK (
        start_mood IN ('positive', 'neutral', 'negative', 'mixed', 'unknown', 'not_applicable')
    ),
    CONSTRAINT ck_sentiment_records_end_mood_known CHECK (
        end_mood IN ('positive', 'neutral', 'negative', 'mixed', 'unknown', 'not_applicable')
    ),
    CONSTRAINT fk_sentiment_records_run_id FOREIGN KEY (run_id) REFERENCES analysis_runs (id) ON DELETE CASCADE
);

CREATE TABLE lead_records (
    run_id bigint NOT NULL,
    intent text NOT NULL,
    urgency text NOT NULL,
    budget_fit text NOT NULL,
    authority text NOT NULL,
    timeline text NOT NULL,
    commitment text NOT NULL,
    objection text NOT NULL,
    score integer,
    tier text NOT NULL,
    reasons text[] NOT NULL,
    rule_version integer NOT NULL,
    CONSTRAINT pk_lead_records PRIMARY KEY (run_id),
    CONSTRAINT ck_lead_records_intent_known CHECK (
        intent IN ('book', 'reschedule', 'cancel', 'price', 'question', 'complaint', 'emergency', 'message',
            'solicitation', 'unknown', 'not_applicable')
    ),
    CONSTRAINT ck_lead_records_urgency_known CHECK (urgency IN ('high', 'medium', 'low', 'unknown', 'not_applicable')),
    CONSTRAINT ck_lead_records_budget_fit_known CHECK (
        budget_fit IN ('fits', 'stretch', 'over', 'unknown', 'not_applicable')
    ),
    CONSTRAINT ck_lead_records_authority_known CHECK (
        authority IN ('self', 'shared', 'other', 'unknown', 'not_applicable')
    ),
    CONSTRAINT ck_lead_records_timeline_known CHECK (
        timeline IN ('today', 'week', 'month', 'later', 'unknown', 'not_applicable')
    ),
    CONSTRAINT ck_lead_records_commitment_known CHECK (
        commitment IN ('committed', 'considering', 'refused', 'unknown', 'not_applicable')
    ),
    CONSTRAINT ck_lead_records_objection_known CHECK (
        objection IN ('none', 'price', 'timing', 'trust', 'competitor', 'unknown', 'not_applicable')
    ),
    CONSTRAINT ck_lead_records_score_range CHECK (score BETWEEN 0 AND 100),
    CONSTRAINT ck_lead_records_tier_known CHECK (tier IN ('hot', 'warm', 'cold', 'none')),
    CONSTRAINT ck_lead_records_no_score_without_tier CHECK ((tier = 'none') = (score IS NULL)),
    CONSTRAINT ck_lead_records_rule_version_range CHECK (rule_version >= 1),
    CONSTRAINT fk_lead_records_run_id FOREIGN KEY (run_id) REFERENCES analysis_runs (id) ON DELETE CASCADE
);

CREATE INDEX ix_lead_records_score ON lead_records (score);

CREATE TABLE field_evidence (
    run_id bigint NOT NULL,
    field text NOT NULL,
    confidence double precision,
    turn_number integer,
    start_ms integer,
    end_ms integer,
    status text NOT NULL,
    CONSTRAINT pk_field_evidence PRIMARY KEY (run_id, field),
    CONSTRAINT ck_field_evidence_status_known CHECK (status IN ('supported', 'no_turn', 'unknown_turn', 'not_citable')),
    CONSTRAINT ck_field_evidence_confidence_range CHECK (confidence BETWEEN 0 AND 1),
    CONSTRAINT ck_field_evidence_turn_number_range CHECK (turn_number >= 1),
    CONSTRAINT ck_field_evidence_supported_has_turn CHECK (
        (status = 'supported') = (turn_number IS NOT NULL AND start_ms IS NOT NULL AND end_ms IS NOT NULL)
    ),
    CONSTRAINT ck_field_evidence_end_after_start CHECK (end_ms >= start_ms),
    CONSTRAINT fk_field_evidence_run_id FOREIGN KEY (run_id) REFERENCES analysis_runs (id) ON DELETE CASCADE
);
