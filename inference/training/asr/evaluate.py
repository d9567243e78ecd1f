"""What unmodified faster-whisper makes of recordings whose turns are known."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel

from inference.training.asr.wer import WordErrors, count_errors

_EDGE_S = 0.2
_SAMPLE_RATE = 16_000


@dataclass(frozen=True, slots=True)
class KnownTurn:
    """A turn on one channel of a recording: true text and times."""

    channel: int
    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class KnownRecording:
    """`audio` float32 [channels, n] at 16 kHz, as decoded from a file."""

    audio: np.ndarray
    turns: Sequence[KnownTurn]


@dataclass(frozen=True, slots=True)
class SpeechScore:
    """Errors over recordings, and how many seconds of audio a second of work heard."""

    errors: WordErrors
    audio_seconds: float
    work_seconds: float

    @property
    def times_real_time(self) -> float:
        """Speed, all channels counted."""
        return self.audio_seconds / self.work_seconds if self.work_seconds else 0.0


def load(directory: Path, num_threads: int = 0) -> WhisperModel:
    """The model as a default install runs it: int8 on CPU, from local files alone."""
    return WhisperModel(
        str(directory),
        device="cpu",
        compute_type="int8",
        cpu_threads=num_threads,
        local_files_only=True,
    )


def transcribe_turns(model: WhisperModel, recording: KnownRecording) -> Iterator[tuple[str, str]]:
    """(true text, text heard) for every turn, each cut out as one clip with a fifth of a second around it."""
    pipeline = BatchedInferencePipeline(model)
    for channel, samples in enumerate(recording.audio):
        turns = [turn for turn in recording.turns if turn.channel == channel]
        if not turns:
            continue
        clips = [
            {
                "start": max(0.0, turn.start_ms / 1_000 - _EDGE_S),
                "end": min(len(samples) / _SAMPLE_RATE, turn.end_ms / 1_000 + _EDGE_S),
            }
            for turn in turns
        ]
        segments, _ = pipeline.transcribe(
            samples, language="en", clip_timestamps=clips, temperature=0.0, batch_size=8
        )
        heard: dict[int, str] = {}
        for segment in segments:
            heard[segment.seek] = heard.get(segment.seek, "") + segment.text
        for turn, clip in zip(turns, clips, strict=True):
            yield turn.text, heard.get(_seek(clip["start"]), "").strip()


def _seek(start_s: float) -> int:
    """The number by which faster-whisper's segments name their clip: its first sample's time in hundredths, cut off."""
    return int(int(start_s * _SAMPLE_RATE) / _SAMPLE_RATE * 100)


def score(model: WhisperModel, recordings: Iterable[KnownRecording]) -> SpeechScore:
    """Word, figure and name errors of the model over recordings."""
    audio_seconds = work_seconds = 0.0
    pairs: list[tuple[str, str]] = []
    for recording in recordings:
        started = time.perf_counter()
        pairs += transcribe_turns(model, recording)
        work_seconds += time.perf_counter() - started
        audio_seconds += recording.audio.size / _SAMPLE_RATE
    return SpeechScore(count_errors(pairs), audio_seconds, work_seconds)


def heard_in_nothing(model: WhisperModel, samples: np.ndarray) -> str:
    """What plain `transcribe`, without voice detection, writes for audio in which nobody speaks: should be empty.

    `samples` is float32 [n] at 16 kHz.
    """
    segments, _ = model.transcribe(samples, language="en", vad_filter=False)
    return " ".join(segment.text.strip() for segment in segments).strip()
