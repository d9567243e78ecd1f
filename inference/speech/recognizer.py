"""Speech to utterances with faster-whisper: voice activity first, then each stretch of speech as a clip of its own."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
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
WINDOW_S = 30.0
# What a model knows of shorter windows, in its preprocessor_config.json. Whisper's own know none.
SHORTEST_WINDOW = "aftercall_shortest_window_s"
SILENCE_AFTER_S = 4.0  # of a clip in a short window; after 1 s the embedded model begins to repeat itself, after 3 not
WINDOW_STEP_S = 2.0  # from one length of windows to the next: few, so that memory is used again
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


class _Pipeline(BatchedInferencePipeline):
    """Whose clips are filled up with silence to about the longest of their batch, where the model knows such windows.

    faster-whisper fills all up to 30 s, which for turns of a few seconds is most of what the encoder reads.
    """

    def __init__(self, model: WhisperModel, shortest_window_s: float) -> None:
        super().__init__(model)
        self._shortest_window_s = shortest_window_s

    def forward(
        self,
        features: np.ndarray,
        tokenizer: Any,
        chunks_metadata: list[dict[str, Any]],
        options: Any,
    ) -> Any:
        """See BatchedInferencePipeline; `features` are `[clips, mels, frames]` of 30 s."""
        longest = max(chunk["duration"] for chunk in chunks_metadata)
        needed = max(longest + SILENCE_AFTER_S, self._shortest_window_s)
        seconds = min(WINDOW_STEP_S * math.ceil(needed / WINDOW_STEP_S), WINDOW_S)
        frames = round(seconds * self.model.frames_per_second)
        return super().forward(features[..., :frames], tokenizer, chunks_metadata, options)


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
        self._pipeline = _Pipeline(self._model, _shortest_window_s(Path(model)))
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
        # Clips of about one length make a batch, so that short ones do not wait for a long one's window.
        order = sorted(range(len(clips)), key=lambda i: clips[i]["end"] - clips[i]["start"])
        segments, _ = self._pipeline.transcribe(
            samples,
            language=self._language,
            clip_timestamps=[clips[i] for i in order],
            temperature=0.0,
            beam_size=5,
            batch_size=BATCH_SIZE,
            no_repeat_ngram_size=no_repeat,
        )
        # a clip's segments share `seek`, its start in frames; clips are at least half a second apart
        per_clip = itertools.groupby(segments, key=lambda segment: segment.seek)
        results = [_ClipResult.join(list(group)) for _, group in per_clip]
        in_order = sorted(zip(order, results, strict=True), key=lambda pair: pair[0])
        return [result for _, result in in_order]


def _shortest_window_s(directory: Path) -> float:
    """The shortest window that the model of a directory knows, in seconds. Raises SpeechModelError for nonsense."""
    path = directory / "preprocessor_config.json"
    if not path.is_file():
        return WINDOW_S
    try:
        seconds = json.loads(path.read_text(encoding="utf-8")).get(SHORTEST_WINDOW, WINDOW_S)
    except (ValueError, AttributeError) as error:
        raise SpeechModelError(f"{path} is no JSON object: {error}") from error
    if not isinstance(seconds, int | float) or not 0 < seconds <= WINDOW_S:
        raise SpeechModelError(f"{path}: {SHORTEST_WINDOW} is {seconds!r}, not 0 to 30 seconds")
    return float(seconds)


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
