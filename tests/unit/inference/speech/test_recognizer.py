"""The recogniser on the shipped checkpoint: words where people speak, nothing where nobody does."""

from pathlib import Path

import numpy as np
import pytest

import inference
import workers
from inference.speech import SpeechRecognizer, read_recording
from inference.speech.media import SAMPLE_RATE
from inference.speech.recognizer import MAX_CLIP_S, SpeechModelError, find_clips

RECORDINGS = Path(workers.__file__).parent / "demo" / "recordings"


@pytest.fixture(scope="module")
def recognizer():
    checkpoint = Path(inference.__file__).parent / "checkpoints" / "asr"
    return SpeechRecognizer(str(checkpoint), device="cpu", num_threads=1)


def noise(level: float, seconds: int = 20) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(SAMPLE_RATE * seconds)
    return (level * samples).astype(np.float32)


def test_each_channel_is_heard_apart_and_in_order(recognizer):
    recording = read_recording(RECORDINGS / "rental-viewing.mp3", max_seconds=600)
    utterances = recognizer.transcribe(recording.audio)
    assert {u.channel for u in utterances} == {0, 1}
    assert [u.start_ms for u in utterances] == sorted(u.start_ms for u in utterances)
    assert all(0 <= u.start_ms < u.end_ms <= recording.duration_ms for u in utterances)
    assert all(0 < u.confidence <= 1 for u in utterances)
    caller = " ".join(u.text for u in utterances if u.channel == 1)
    assert "David Moore" in caller


@pytest.mark.parametrize("level", [0.0, 0.01, 0.1], ids=["silence", "hiss", "loud noise"])
def test_nothing_is_invented_where_nobody_speaks(recognizer, level):
    assert recognizer.transcribe(noise(level)[None]) == []


def test_a_long_speech_is_cut_into_clips_that_fit_the_model():
    recording = read_recording(RECORDINGS / "rental-viewing.mp3", max_seconds=600)
    speech = np.concatenate([recording.audio.sum(axis=0)] * 3)
    [clips] = find_clips(speech[None])
    assert len(clips) > 3
    assert all(0 < clip["end"] - clip["start"] <= MAX_CLIP_S + 0.5 for clip in clips)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpeechModelError, match="AFTERCALL_ASR_MODEL"):
        SpeechRecognizer(str(tmp_path))
