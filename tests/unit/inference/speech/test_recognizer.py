"""The recogniser on the shipped checkpoint: words where people speak, nothing where nobody does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from faster_whisper import BatchedInferencePipeline

import inference
import workers
from inference.speech import SpeechRecognizer, read_recording
from inference.speech.media import SAMPLE_RATE
from inference.speech.recognizer import (
    MAX_CLIP_S,
    SHORTEST_WINDOW,
    SpeechModelError,
    find_clips,
)

CHECKPOINT = Path(inference.__file__).parent / "checkpoints" / "asr"
RECORDINGS = Path(workers.__file__).parent / "demo" / "recordings"


@pytest.fixture(scope="module")
def recognizer():
    return SpeechRecognizer(str(CHECKPOINT), device="cpu", num_threads=1)


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
    # the caller's first turn is the longest: batches are heard in another order than they were spoken
    assert utterances[0].text.startswith("Good afternoon")
    assert utterances[1].text.endswith("price on that?")
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


def copy_of_checkpoint(directory: Path, shortest_window_s: object) -> str:
    """The shipped checkpoint with another shortest window; None says nothing of windows."""
    shutil.copytree(CHECKPOINT, directory)
    path = directory / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    settings.pop(SHORTEST_WINDOW)
    if shortest_window_s is not None:
        settings[SHORTEST_WINDOW] = shortest_window_s
    path.write_text(json.dumps(settings))
    return str(directory)


def test_short_windows_say_what_long_ones_say(recognizer, tmp_path, monkeypatch):
    frames = []
    forward = BatchedInferencePipeline.forward

    def recorded(self, features, *arguments):
        frames.append(features.shape[-1])
        return forward(self, features, *arguments)

    monkeypatch.setattr(BatchedInferencePipeline, "forward", recorded)
    audio = read_recording(RECORDINGS / "rental-viewing.mp3", max_seconds=600).audio
    audio = audio[:, : 12 * SAMPLE_RATE]
    found = recognizer.transcribe(audio)
    short, frames[:] = list(frames), []
    windowed = copy_of_checkpoint(tmp_path / "whole", None)
    expected = SpeechRecognizer(windowed, device="cpu", num_threads=1).transcribe(audio)
    assert set(frames) == {3_000}
    assert min(short) == 1_000
    assert sum(short) < sum(frames) / 2
    assert [(u.channel, u.start_ms, u.text) for u in found] == [
        (u.channel, u.start_ms, u.text) for u in expected
    ]


@pytest.mark.parametrize("seconds", [0, 31, "10", [10]])
def test_a_window_that_is_none_is_refused_by_name(tmp_path, seconds):
    directory = copy_of_checkpoint(tmp_path / "model", seconds)
    with pytest.raises(SpeechModelError, match=SHORTEST_WINDOW):
        SpeechRecognizer(directory, device="cpu", num_threads=1)
