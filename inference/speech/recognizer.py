"""Speech to utterances with faster-whisper: voice activity first, then each stretch of speech as a clip of its own."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel

from inference.speech.media import SAMPLE_RATE
from inference.speech.voice_activity import (
    FRAME_S,
    copied,
    levels_db,
    speech_probability,
    stretches,
)

# Whisper's window is 30 s, and faster-whisper drops what lies behind it without a word in batched mode.
MAX_CLIP_S = 28.0
# Pauses shorter than this belong to one turn: people breathe.
MERGE_GAP_S = 0.6
BATCH_SIZE = 8
# Batched transcription ignores these thresholds of faster-whisper, so they are applied here (OpenAI's values).
MAX_NO_SPEECH_PROB = 0.6
MIN_AVG_LOGPROB = -1.0
MAX_COMPRESSION_RATIO = 2.4


class SpeechModelError(Exception):
    """The speech model cannot be loaded; the message names it and the setting."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech on one channel; times in milliseconds from the recording's start."""

    channel: int
    start_ms: int
    end_ms: int
    text: str
    confidence: float  # mean token probability, 0 to 1


@dataclass(frozen=True, slots=True)
class _ClipResult:
    text: str
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float

    @classmethod
    def join(cls, segments: list[Any]) -> _ClipResult:
        first = segments[0]
        return cls(
            text=" ".join(segment.text.strip() for segment in segments).strip(),
            avg_logprob=first.avg_logprob,
            no_speech_prob=first.no_speech_prob,
            compression_ratio=max(segment.compression_ratio for segment in segments),
        )

    @property
    def is_repetition(self) -> bool:
        return self.compression_ratio > MAX_COMPRESSION_RATIO

    @property
    def is_speech(self) -> bool:
        is_noise = self.no_speech_prob > MAX_NO_SPEECH_PROB and self.avg_logprob < MIN_AVG_LOGPROB
        return bool(self.text) and not is_noise and not self.is_repetition


class SpeechRecognizer:
    """A loaded Whisper model. Not safe across threads or forks: create it in the process and thread that uses it."""

    def __init__(
        self,
        model: str,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        compute_type: str = "default",
        language: str = "en",
        num_threads: int = 0,
    ) -> None:
        """Load a CTranslate2 Whisper directory or hub name. Raises SpeechModelError when that fails."""
        try:
            self._model = WhisperModel(
                model, device=device, compute_type=compute_type, cpu_threads=num_threads
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise SpeechModelError(
                f"cannot load the speech model {model!r} (AFTERCALL_ASR_MODEL): {error}"
            ) from error
        self._pipeline = BatchedInferencePipeline(self._model)
        self._language = language

    def transcribe(self, audio: np.ndarray) -> list[Utterance]:
        """Utterances of every channel of `audio` (float32 [channels, samples], 16 kHz), ordered by start."""
        utterances = [
            utterance
            for channel, clips in enumerate(find_clips(audio))
            for utterance in self._transcribe_channel(channel, audio[channel], clips)
        ]
        return sorted(utterances, key=lambda u: (u.start_ms, u.channel))

    def _transcribe_channel(
        self, channel: int, samples: np.ndarray, clips: list[dict[str, float]]
    ) -> list[Utterance]:
        if not clips:  # given no clips, faster-whisper would fall back to voice activity of its own
            return []
        results = self._run(samples, clips)
        repeated = [i for i, result in enumerate(results) if result.is_repetition]
        if repeated:
            again = self._run(samples, [clips[i] for i in repeated], no_repeat=3)
            for i, result in zip(repeated, again, strict=True):
                results[i] = result
        return [
            Utterance(
                channel=channel,
                start_ms=round(clip["start"] * 1000),
                end_ms=round(clip["end"] * 1000),
                text=result.text,
                confidence=min(1.0, math.exp(result.avg_logprob)),
            )
            for clip, result in zip(clips, results, strict=True)
            if result.is_speech
        ]

    def _run(
        self, samples: np.ndarray, clips: list[dict[str, float]], no_repeat: int = 0
    ) -> list[_ClipResult]:
        """One result per clip, in order. Temperature 0 alone: the fallback temperatures sample."""
        segments, _ = self._pipeline.transcribe(
            samples,
            language=self._language,
            clip_timestamps=clips,
            temperature=0.0,
            beam_size=5,
            batch_size=BATCH_SIZE,
            no_repeat_ngram_size=no_repeat,
        )
        # a clip's segments share `seek`, its start in frames; clips are at least half a second apart
        per_clip = itertools.groupby(segments, key=lambda segment: segment.seek)
        return [_ClipResult.join(list(group)) for _, group in per_clip]


def find_clips(audio: np.ndarray) -> list[list[dict[str, float]]]:
    """Where each channel of `audio` (float32 [channels, samples], 16 kHz) speaks itself, as {start, end} in seconds.

    Clips last at most 28 s. A channel's quiet copy of what another says at the moment is left out.
    """
    levels = [levels_db(samples) for samples in audio]
    clips = []
    for channel, samples in enumerate(audio):
        probability = speech_probability(samples)
        for other, other_db in enumerate(levels):
            if other != channel:
                probability[copied(levels[channel], other_db)] = 0
        found = stretches(probability, levels[channel], int(MAX_CLIP_S / FRAME_S))
        seconds = len(samples) / SAMPLE_RATE
        clips.append(
            _merged(
                [
                    {"start": one.first * FRAME_S, "end": min(one.end * FRAME_S, seconds)}
                    for one in found
                ]
            )
        )
    return clips


def _merged(clips: list[dict[str, float]]) -> list[dict[str, float]]:
    """Neighbours joined that belong to one turn, as far as the model's window allows."""
    merged: list[dict[str, float]] = []
    for clip in clips:
        if (
            merged
            and clip["start"] - merged[-1]["end"] < MERGE_GAP_S
            and clip["end"] - merged[-1]["start"] <= MAX_CLIP_S
        ):
            merged[-1]["end"] = clip["end"]
        else:
            merged.append(clip)
    return merged
