"""The transcribe stage on real recordings, with a recogniser that says what it is told to."""

from __future__ import annotations

import hashlib
import math
import struct
import wave
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from obstore.store import MemoryStore, S3Store
from sqlalchemy import text

from db import queue
from db.errors import LeaseLostError
from db.repository import calls
from db.session import Database
from inference.speech import UnusableRecordingError, Utterance, read_recording
from tests.integration.workers.stages.conftest import POLICY, AddCall
from workers import transcribe as stage
from workers.drain import Claim, drain
from workers.faults import WorkBlockedError
from workers.ingest.objects import ObjectForbiddenError
from workers.settings import Settings
from workers.storage import local_copy
from workers.transcribe import Transcriber

SAID = [
    Utterance(0, 100, 900, "How can I help?", 0.9),
    Utterance(1, 1_000, 1_900, "I would like to book.", 0.8),
]
Transcribe = Callable[..., None]


class RecognizerDouble:
    """Hears the same in every recording, on the channels that it has."""

    def __init__(self, said: list[Utterance]) -> None:
        self.said = said

    def transcribe(self, audio: np.ndarray) -> list[Utterance]:
        return [utterance for utterance in self.said if utterance.channel < len(audio)]


@pytest.fixture
def transcribe(empty_database: Database, settings: Settings) -> Transcribe:
    def run(said: list[Utterance] = SAID) -> None:
        recognizer: Any = RecognizerDouble(said)
        work = Transcriber(empty_database, settings, recognizer).work
        claim = Claim(limit=1)
        drain(empty_database, "transcribe", work, claim=claim, policy=POLICY, seconds=60)

    return run


def write_tones(path: Path, *, channels: int = 2, seconds: float = 2.0, hz: float = 300) -> Path:
    """A WAV of 8 kHz with another tone on every channel."""
    samples = (
        int(9_000 * math.sin(2 * math.pi * hz * (1 + channel) * i / 8_000))
        for i in range(int(8_000 * seconds))
        for channel in range(channels)
    )
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, 8_000, 0, "NONE", ""))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return path


def fetch(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.unit_of_work() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def live_jobs(database: Database) -> list[tuple[Any, ...]]:
    return fetch(database, "SELECT call_id, stage FROM jobs WHERE state = 'ready'")


def test_a_recording_becomes_turns_metrics_and_work_for_the_next_stage(
    empty_database: Database, add_call: AddCall, transcribe: Transcribe, tmp_path: Path
) -> None:
    call_id = add_call(write_tones(tmp_path / "good.wav"))
    transcribe()
    assert fetch(empty_database, "SELECT number, role, start_ms, end_ms, text FROM turns") == [
        (1, "agent", 100, 900, "How can I help?"),
        (2, "caller", 1_000, 1_900, "I would like to book."),
    ]
    assert fetch(
        empty_database, "SELECT verdict, codec, sample_rate, channels, duration_ms FROM recordings"
    ) == [("ok", "pcm_s16le", 8_000, 2, 2_000)]
    assert fetch(
        empty_database, "SELECT talk_time_agent_ms, talk_time_caller_ms FROM call_metrics"
    ) == [(800, 900)]
    assert live_jobs(empty_database) == [(call_id, "analyze")]
    [(tokens,)] = fetch(empty_database, "SELECT tokens FROM jobs WHERE stage = 'analyze'")
    assert tokens == fetch(empty_database, "SELECT prompt_tokens FROM transcripts")[0][0] > 0


def test_a_call_that_is_transcribed_again_stays_behind_new_ones(
    empty_database: Database, add_call: AddCall, transcribe: Transcribe, tmp_path: Path
) -> None:
    call_id = add_call(write_tones(tmp_path / "good.wav"))
    transcribe()
    with empty_database.unit_of_work() as session:
        session.execute(text("DELETE FROM jobs"))
        calls.reprocess(session, [call_id], "transcribe")
    transcribe()
    assert fetch(empty_database, "SELECT stage, priority FROM jobs ORDER BY id") == [
        ("transcribe", -1),
        ("analyze", -1),
    ]


def test_a_transcript_tells_what_it_was_made_of(
    empty_database: Database, add_call: AddCall, transcribe: Transcribe, tmp_path: Path
) -> None:
    path = write_tones(tmp_path / "good.wav")
    add_call(path)
    transcribe()
    [(provenance,)] = fetch(empty_database, "SELECT provenance FROM transcripts")
    assert provenance["recording"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert provenance["language"] == "en"
    assert provenance["agent_channel"] == 0


def test_a_recording_s_own_agent_channel_goes_before_the_setting(
    empty_database: Database, add_call: AddCall, transcribe: Transcribe, tmp_path: Path
) -> None:
    add_call(write_tones(tmp_path / "good.wav"), agent_channel=1)
    transcribe()
    assert fetch(empty_database, "SELECT role FROM turns ORDER BY number") == [
        ("caller",),
        ("agent",),
    ]


def test_on_one_channel_nobody_can_tell_who_speaks(
    empty_database: Database, add_call: AddCall, transcribe: Transcribe, tmp_path: Path
) -> None:
    add_call(write_tones(tmp_path / "mono.wav", channels=1))
    transcribe()
    assert fetch(empty_database, "SELECT role, verdict FROM turns, recordings") == [
        ("unknown", "mono")
    ]


def test_silence_is_an_empty_transcript_and_goes_on_to_be_analyzed(
    empty_database: Database, add_call: AddCall, transcribe: Transcribe, tmp_path: Path
) -> None:
    call_id = add_call(write_tones(tmp_path / "quiet.wav"))
    transcribe(said=[])
    assert fetch(empty_database, "SELECT is_empty FROM transcripts") == [(True,)]
    assert live_jobs(empty_database) == [(call_id, "analyze")]


def test_an_unusable_recording_gets_its_verdict_and_goes_no_further(
    empty_database: Database, add_call: AddCall, transcribe: Transcribe, tmp_path: Path
) -> None:
    vanished = write_tones(tmp_path / "vanished.wav", hz=310)
    three = write_tones(tmp_path / "three.wav", channels=3)
    good = add_call(write_tones(tmp_path / "good.wav"))
    add_call(vanished)
    add_call(three)
    vanished.unlink()
    transcribe()
    verdicts = fetch(
        empty_database, "SELECT uri, verdict, verdict_detail FROM recordings ORDER BY id"
    )
    assert verdicts[1:] == [
        (str(vanished), "missing", f"{vanished} does not exist any more"),
        (str(three), "unsupported", f"{three} has 3 channels; one or two are expected"),
    ]
    assert live_jobs(empty_database) == [(good, "analyze")]


def test_other_bytes_under_the_same_name_are_not_the_recording(
    empty_database: Database, add_call: AddCall, transcribe: Transcribe, tmp_path: Path
) -> None:
    path = write_tones(tmp_path / "changed.wav")
    add_call(path)
    write_tones(path, hz=500)
    transcribe()
    assert fetch(empty_database, "SELECT verdict, verdict_detail FROM recordings") == [
        ("missing", f"{path} holds other bytes than were ingested")
    ]
    assert fetch(empty_database, "SELECT count(*) FROM transcripts") == [(0,)]


def test_a_store_that_is_down_blames_no_call(
    empty_database: Database,
    add_call: AddCall,
    transcribe: Transcribe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere = S3Store(
        "bucket",
        endpoint="http://127.0.0.1:1",
        access_key_id="someone",
        secret_access_key="secret",
        region="here",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    monkeypatch.setattr(stage, "local_copy", partial(local_copy, opened=lambda _: nowhere))
    for name in ("one", "two"):
        digest = hashlib.sha256(name.encode()).hexdigest()
        add_call(f"s3://bucket/{name}.wav", sha256=digest)
    for _ in range(2):
        with pytest.raises(WorkBlockedError, match="error sending request"):
            transcribe()
    transcribe()
    found = fetch(empty_database, "SELECT state, attempts, error_class FROM jobs")
    assert found == [("ready", 0, "ObjectStoreError")] * 2
    assert fetch(empty_database, "SELECT DISTINCT status FROM call_status") == [("received",)]


def test_an_object_that_may_not_be_read_is_tried_again_and_then_told(
    empty_database: Database,
    add_call: AddCall,
    transcribe: Transcribe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(uri: str) -> Any:
        raise ObjectForbiddenError(f"{uri} may not be read")

    monkeypatch.setattr(stage, "local_copy", forbidden)
    add_call("s3://bucket/one.wav", sha256="0" * 64)
    transcribe()
    assert fetch(empty_database, "SELECT state, attempts, error_class, last_error FROM jobs") == [
        ("dead", 3, "ObjectForbiddenError", "s3://bucket/one.wav may not be read")
    ]


def test_a_lease_that_is_lost_meanwhile_leaves_nothing_behind(
    empty_database: Database, add_call: AddCall, tmp_path: Path, settings: Settings
) -> None:
    add_call(write_tones(tmp_path / "good.wav"))
    with empty_database.unit_of_work() as session:
        lease = queue.claim(session, "transcribe", worker="slow", limit=1, policy=POLICY)
    assert lease is not None

    class LosesTheLease(RecognizerDouble):
        def transcribe(self, audio: np.ndarray) -> list[Utterance]:
            with empty_database.unit_of_work() as session:
                queue.release(session, lease.token, lease.ids)
            return super().transcribe(audio)

    recognizer: Any = LosesTheLease(SAID)
    with pytest.raises(LeaseLostError):
        Transcriber(empty_database, settings, recognizer).work(lease)
    assert fetch(empty_database, "SELECT count(*) FROM transcripts") == [(0,)]
    assert fetch(empty_database, "SELECT verdict FROM recordings") == [(None,)]


def test_an_object_is_read_from_a_copy_and_told_by_its_own_name(tmp_path: Path) -> None:
    good = write_tones(tmp_path / "good.wav").read_bytes()
    store = MemoryStore()
    store.put("calls/a #1.wav", good)
    store.put("calls/bad.wav", b"not a recording")

    def opened(_: str) -> MemoryStore:
        return store

    with local_copy("s3://bucket/calls/a #1.wav", opened=opened) as path:
        assert path.read_bytes() == good
    assert not path.exists()
    uri = "s3://bucket/calls/bad.wav"
    with pytest.raises(UnusableRecordingError, match=uri), local_copy(uri, opened=opened) as path:
        read_recording(path, max_seconds=60)
    with pytest.raises(UnusableRecordingError, match="does not exist any more") as gone:
        local_copy("s3://bucket/calls/gone.wav", opened=opened).__enter__()
    assert gone.value.verdict == "missing"
