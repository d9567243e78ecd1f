"""Speech to utterances with faster-whisper: voice activity first, then each stretch of speech as a clip of its own."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.vad import VadOptions, get_speech_timestamps

from inference.speech.media import SAMPLE_RATE

# An options object without a maximum gives chunks past Whisper's 30 s window, whose tails are lost without a word
# (faster-whisper trims features to 30 s in batched mode); 28 s leaves room for the padding. The usual threshold of 0.5
# loses first words on a telephone line: 0.3 took six of the demo's calls from 5.8 to 2.9 % word errors.
_VAD = VadOptions(
    threshold=0.3, max_speech_duration_s=28, min_silence_duration_ms=500, speech_pad_ms=200
)
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
            for channel, samples in enumerate(audio)
            for utterance in self._transcribe_channel(channel, samples)
        ]
        return sorted(utterances, key=lambda u: (u.start_ms, u.channel))

    def _transcribe_channel(self, channel: int, samples: np.ndarray) -> list[Utterance]:
        clips = find_clips(samples)
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


def find_clips(samples: np.ndarray) -> list[dict[str, float]]:
    """Stretches of speech in `samples` (float32 [samples], 16 kHz) as {start, end} in seconds, each at most 28 s."""
    clips: list[dict[str, float]] = []
    for stretch in get_speech_timestamps(samples, _VAD):
        start, end = stretch["start"] / SAMPLE_RATE, stretch["end"] / SAMPLE_RATE
        if (
            clips
            and start - clips[-1]["end"] < MERGE_GAP_S
            and end - clips[-1]["start"] <= MAX_CLIP_S
        ):
            clips[-1]["end"] = end
        else:
            clips.append({"start": start, "end": end})
    return clips
