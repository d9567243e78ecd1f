"""Scoring the recogniser on simulated calls: known and unseen voices, held-out wording, open text, no speech."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from analytics.simulator import simulate
from analytics.simulator.open_text import sentences
from analytics.simulator.patterns import Split
from analytics.simulator.speech.line import coloured_noise, hold_music
from analytics.simulator.speech.render import CALLER_CHANNEL, RenderedCall, Role, render_call
from analytics.simulator.speech.voices import (
    HELDOUT_ESPEAK_VOICES,
    HELDOUT_FLITE_VOICES,
    TRAINING_VOICES,
    Voice,
)
from analytics.simulator.speech.wav import write_wav
from inference.speech.media import read_recording
from inference.training.asr.evaluate import (
    KnownRecording,
    KnownTurn,
    heard_in_nothing,
    load,
    score,
)

_SEED = 2_000_000_011
_SILENT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SpeechSet:
    """One evaluation set: a stream of calls as (role, text) turns, and the voices that speak them."""

    name: str
    calls: Iterator[Sequence[tuple[Role, str]]]
    voices: tuple[Voice, ...]


def _calls(split: Split) -> Iterator[Sequence[tuple[Role, str]]]:
    for call in simulate(_SEED, split=split):
        yield [(turn.role, turn.text) for turn in call.spoken]


def _open_calls() -> Iterator[Sequence[tuple[Role, str]]]:
    stream = sentences(_SEED, split="heldout")
    roles: tuple[Role, Role] = ("agent", "caller")
    while True:
        yield [(roles[index % 2], text) for index, text in enumerate(islice(stream, 14))]


def speech_sets() -> tuple[SpeechSet, ...]:
    """The sets of the model card; no call of theirs was trained on."""
    return (
        SpeechSet("known voices", _calls("train"), TRAINING_VOICES),
        SpeechSet("unseen espeak voices", _calls("train"), HELDOUT_ESPEAK_VOICES),
        SpeechSet("unseen flite voice", _calls("train"), HELDOUT_FLITE_VOICES),
        SpeechSet("held-out wording", _calls("heldout"), TRAINING_VOICES),
        SpeechSet("open text", _open_calls(), TRAINING_VOICES),
    )


def recordings(chosen: SpeechSet, count: int, directory: Path) -> Iterator[KnownRecording]:
    """Render calls to µ-law WAV files and decode them as a default install does."""
    for index, turns in enumerate(islice(chosen.calls, count)):
        call = render_call(turns, _SEED + index, voices=chosen.voices)
        path = directory / "call.wav"
        write_wav(path, call.audio)
        yield KnownRecording(read_recording(path, max_seconds=1_800).audio, _known_turns(call))


def _known_turns(call: RenderedCall) -> tuple[KnownTurn, ...]:
    return tuple(
        KnownTurn(
            CALLER_CHANNEL if turn.role == "caller" else 1 - CALLER_CHANNEL,
            turn.text,
            turn.start_ms,
            turn.end_ms,
        )
        for turn in call.turns
    )


def nothing_said() -> dict[str, np.ndarray]:
    """A minute each of silence, noise and hold music: float32 [n] at 16 kHz."""
    rng = np.random.default_rng(_SEED)
    count = _SILENT_SECONDS * 8_000
    telephone: dict[str, np.ndarray] = {
        "silence": np.zeros(count, np.float32),
        "quiet noise": coloured_noise(count, rng) * 0.003,
        "loud noise": coloured_noise(count, rng) * 0.05,
        "hold music": hold_music(count, rng),
    }
    # Linear doubling of the rate is enough where nothing is to be understood.
    steps = np.arange(2 * count) / 2
    return {
        name: np.interp(steps, np.arange(count), samples).astype(np.float32)
        for name, samples in telephone.items()
    }


def score_asr(model_directory: Path, work: Path, calls_per_set: int) -> dict[str, object]:
    """Word, figure and name error rates in per cent by set, speed, and what is heard where nothing is said."""
    model = load(model_directory)
    table: dict[str, object] = {}
    for chosen in speech_sets():
        result = score(model, recordings(chosen, calls_per_set, work))
        errors = result.errors
        table[chosen.name] = {
            "wer": round(100 * errors.rate, 2),
            "figure_errors": round(100 * errors.figure_errors / max(errors.figures, 1), 2),
            "name_errors": round(100 * errors.name_errors / max(errors.names, 1), 2),
            "words": errors.words,
            "times_real_time": round(result.times_real_time, 1),
        }
        print(chosen.name, table[chosen.name], flush=True)
    table["nothing said"] = {
        name: heard_in_nothing(model, samples) for name, samples in nothing_said().items()
    }
    return table


if __name__ == "__main__":
    scores = score_asr(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(scores, indent=1))
