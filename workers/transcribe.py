"""The transcribe stage: one recording in, its verdict and its transcript with talk metrics out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import structlog

from analytics.talk_metrics import measure
from analytics.transcript import Transcript
from db import queue
from db.queue import ClaimedJob, Lease
from db.repository import calls, transcripts
from db.repository.calls import MediaFacts, StoredRecording
from db.session import Database
from inference.speech import (
    Recording,
    SpeechRecognizer,
    UnusableRecordingError,
    Utterance,
    read_recording,
)
from inference.speech.recognizer import SpeechModelError
from workers.errors import ModelUnavailableError
from workers.fingerprints import code_version, fingerprint, model_digest
from workers.settings import Settings
from workers.storage import local_copy
from workers.turns import to_transcript

log = structlog.get_logger(__name__)
# English runs at 4 characters a token in the vocabularies of LLaDA and of the embedded checkpoint; a turn's number,
# speaker and line break cost 6 more.
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_TURN = 6


@cache
def transcriber(database: Database, settings: Settings) -> Transcriber:
    """This process's transcriber; the model is loaded once. Raises ModelUnavailableError."""
    try:
        recognizer = SpeechRecognizer(
            settings.asr_model,
            device=settings.asr_device,
            compute_type=settings.asr_compute_type,
            language=settings.language,
        )
    except SpeechModelError as error:
        raise ModelUnavailableError(str(error)) from error
    return Transcriber(database, settings, recognizer)


class Transcriber:
    """Works on jobs of the transcribe stage."""

    def __init__(
        self, database: Database, settings: Settings, recognizer: SpeechRecognizer
    ) -> None:
        self._database = database
        self._settings = settings
        self._recognizer = recognizer

    def work(self, lease: Lease) -> None:
        """Judge and transcribe the recording of each job; see `workers.drain`."""
        for job in lease.jobs:
            with structlog.contextvars.bound_contextvars(call_id=job.call_id):
                self._work_on(lease, job)

    def _work_on(self, lease: Lease, job: ClaimedJob) -> None:
        with self._database.unit_of_work() as session:
            stored = calls.recordings_of(session, [job.call_id])[job.call_id]
        try:
            with local_copy(stored.uri) as path:
                recording = read_recording(path, max_seconds=self._settings.max_call_minutes * 60)
                _require_same_bytes(path, stored)
        except UnusableRecordingError as error:
            self._reject(lease, job, stored, error)
            return
        utterances = self._recognizer.transcribe(recording.audio)
        self._store(lease, job, stored, recording, utterances)
        log.info("transcribed", verdict=recording.verdict, turns=len(utterances))

    def _reject(
        self, lease: Lease, job: ClaimedJob, stored: StoredRecording, error: UnusableRecordingError
    ) -> None:
        with self._database.unit_of_work() as session:
            queue.hold(session, lease.token, job.id)
            facts = MediaFacts(verdict=error.verdict, verdict_detail=str(error))
            calls.record_facts(session, stored.id, facts)
            queue.finish(session, lease.token, job.id)
        log.info("rejected", verdict=error.verdict, reason=str(error))

    def _store(
        self,
        lease: Lease,
        job: ClaimedJob,
        stored: StoredRecording,
        recording: Recording,
        utterances: list[Utterance],
    ) -> None:
        agent_channel = stored.agent_channel
        if agent_channel is None:
            agent_channel = self._settings.agent_channel
        transcript = to_transcript(recording, utterances, agent_channel, self._settings.language)
        provenance = self._provenance(stored, agent_channel)
        facts = MediaFacts(
            verdict=recording.verdict,
            verdict_detail=_describe(recording),
            codec=recording.codec,
            sample_rate=recording.sample_rate,
            channels=recording.channel_count,
            duration_ms=recording.duration_ms,
        )
        with self._database.unit_of_work() as session:
            queue.hold(session, lease.token, job.id)
            calls.record_facts(session, stored.id, facts)
            transcripts.store_transcript(
                session,
                call_id=job.call_id,
                recording_id=stored.id,
                transcript=transcript,
                metrics=measure(transcript),
                fingerprint=fingerprint(provenance),
                provenance=provenance,
                prompt_tokens=estimate_tokens(transcript),
            )
            queue.enqueue(session, [job.call_id], "analyze", priority=job.priority)
            queue.finish(session, lease.token, job.id)

    def _provenance(self, stored: StoredRecording, agent_channel: int) -> Mapping[str, Any]:
        return {
            "recording": stored.sha256,
            "model": self._settings.asr_model,
            "model_digest": model_digest(self._settings.asr_model),
            "compute_type": self._settings.asr_compute_type,
            "language": self._settings.language,
            "agent_channel": agent_channel,
            "code": code_version(),
        }


def _require_same_bytes(path: Path, stored: StoredRecording) -> None:
    """What is stored of a call is traced to the bytes that were ingested; others under the same name are not they."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != stored.sha256:
        raise UnusableRecordingError("missing", f"{path} holds other bytes than were ingested")


def estimate_tokens(transcript: Transcript) -> int:
    """About how many prompt tokens the transcript takes; batches are filled by it."""
    return sum(len(t.text) // CHARACTERS_PER_TOKEN + TOKENS_PER_TURN for t in transcript.turns)


def _describe(recording: Recording) -> str | None:
    if recording.silent_channels:
        return f"silent: channel {', '.join(map(str, recording.silent_channels))}"
    return None
