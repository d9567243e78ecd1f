"""The speech model on recordings with known truth, through the media guard as in production."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from analytics.evaluation import Bootstrap, Measure, WordErrors, ratio, word_errors
from analytics.simulator import SimulatedCall
from analytics.simulator.speech.render import AGENT_CHANNEL, CALLER_CHANNEL, RenderedTurn
from analytics.simulator.speech.wav import write_wav
from analytics.transcript import Transcript
from inference.speech import Recording, Utterance, read_recording
from workers.evaluation.speech_sets import SpokenRecording
from workers.evaluation.text import BOOTSTRAP_SEED, SetReport
from workers.turns import to_transcript

Transcribe = Callable[[np.ndarray], list[Utterance]]
"""float32 [channels, samples] at 16 kHz → utterances by start, as `SpeechRecognizer.transcribe`."""

_MAX_SECONDS = 3_600.0
_ROLE_OF_CHANNEL: Mapping[int, str] = {AGENT_CHANNEL: "agent", CALLER_CHANNEL: "caller"}


@dataclass(frozen=True, slots=True)
class HeardRecording:
    """What was made of a recording. `errors` are over both channels, each compared with what was said on it."""

    call: SimulatedCall | None
    turns: tuple[RenderedTurn, ...]  # as they were spoken
    transcript: Transcript
    errors: WordErrors
    audio_seconds: float
    transcribe_seconds: float


def hear(recording: SpokenRecording, transcribe: Transcribe) -> HeardRecording:
    """Write a recording as 8 kHz µ-law, read it as the service does, transcribe it and count word errors."""
    decoded = _as_read(recording.audio)
    started = time.perf_counter()
    utterances = transcribe(decoded.audio)
    seconds = time.perf_counter() - started
    return HeardRecording(
        call=recording.call,
        turns=recording.turns,
        transcript=to_transcript(decoded, utterances, AGENT_CHANNEL, "en"),
        errors=_errors(recording, utterances),
        audio_seconds=decoded.duration_ms / 1_000,
        transcribe_seconds=seconds,
    )


def report_on_speech(name: str, description: str, heard: Sequence[HeardRecording]) -> SetReport:
    """Word, digit and name errors with intervals over recordings; where nothing is said, the words invented."""
    bootstrap = Bootstrap(len(heard), seed=BOOTSTRAP_SEED)
    measures = measure_speech(heard)
    estimates = {key: bootstrap.estimate(measure) for key, measure in measures.items()}
    seconds = sum(recording.transcribe_seconds for recording in heard)
    return SetReport(name, description, len(heard), seconds, estimates)


def measure_speech(heard: Sequence[HeardRecording]) -> dict[str, Measure]:
    """Measures by name; rates are over the words of all recordings together."""
    errors = [recording.errors for recording in heard]
    seconds = [recording.audio_seconds for recording in heard]
    speed = ratio(seconds, [recording.transcribe_seconds for recording in heard])
    words = [e.num_words for e in errors]
    if not any(words):
        minutes = [s / 60 for s in seconds]
        return {"invented_words": ratio([e.insertions for e in errors], minutes), "speed": speed}
    return {
        "wer": ratio([e.num_errors for e in errors], words),
        "substitutions": ratio([e.substitutions for e in errors], words),
        "deletions": ratio([e.deletions for e in errors], words),
        "insertions": ratio([e.insertions for e in errors], words),
        "digit_error": ratio([e.missed_digits for e in errors], [e.num_digits for e in errors]),
        "name_error": ratio([e.missed_names for e in errors], [e.num_names for e in errors]),
        "speed": speed,
    }


def _as_read(audio: np.ndarray) -> Recording:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "call.wav"
        write_wav(path, audio)
        return read_recording(path, max_seconds=_MAX_SECONDS)


def _errors(recording: SpokenRecording, utterances: Iterable[Utterance]) -> WordErrors:
    heard = list(utterances)
    per_channel = [
        word_errors(
            " ".join(turn.text for turn in recording.turns if turn.role == role),
            " ".join(utterance.text for utterance in heard if utterance.channel == channel),
            names=recording.names,
        )
        for channel, role in _ROLE_OF_CHANNEL.items()
    ]
    return per_channel[0] + per_channel[1]
