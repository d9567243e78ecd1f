"""Call assembly: spoken turns placed in time on two channels, and heard through a telephone line."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analytics.simulator.speech.line import (
    coloured_noise,
    from_mu_law_bytes,
    hold_music,
    mu_law_bytes,
    telephone_band,
)
from analytics.simulator.speech.synthesis import TELEPHONE_RATE, speak_written
from analytics.simulator.speech.voices import KNOWN_VOICES, Voice

Role = Literal["agent", "caller"]
AGENT_CHANNEL, CALLER_CHANNEL = 0, 1


@dataclass(frozen=True, slots=True)
class RenderedTurn:
    """A turn as it sounds: when its speech begins and ends in the recording."""

    role: Role
    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class RenderedCall:
    """`audio` is float32 [2, n] at 8 kHz, agent on channel 0 and caller on channel 1; `turns` are in order of start."""

    audio: np.ndarray
    turns: tuple[RenderedTurn, ...]

    @property
    def duration_ms(self) -> int:
        """The recording's length."""
        return self.audio.shape[1] * 1_000 // TELEPHONE_RATE


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a call goes and how it sounds. Probabilities are per change of turn, levels in dB below speech."""

    barge_in: float = 0.06
    hold: float = 0.03
    long_silence: float = 0.04
    noise_db: tuple[float, float] = (22, 45)
    crosstalk_db: float = 38
    mu_law: bool = True


def _voice(voices: Sequence[Voice], rng: random.Random, other: Voice | None = None) -> Voice:
    choices = [voice for voice in voices if voice != other] or list(voices)
    return rng.choices(choices, [voice.weight for voice in choices])[0]


def _gap_ms(rng: random.Random, conditions: Conditions, same_speaker: bool) -> int:
    """Time from the end of one turn to the start of the next; negative where the next speaker barges in."""
    draw = rng.random()
    if not same_speaker and draw < conditions.barge_in:
        return -rng.randint(200, 900)
    if draw > 1 - conditions.long_silence:
        return rng.randint(2_500, 6_000)
    return rng.randint(700, 1_500) if same_speaker else rng.randint(150, 1_200)


def render_call(
    turns: Sequence[tuple[Role, str]],
    seed: int,
    *,
    voices: Sequence[Voice] = KNOWN_VOICES,
    conditions: Conditions | None = None,
) -> RenderedCall:
    """Speak (role, written text) turns in two voices and lay them out as one recording.

    The same arguments give the same call, with times equal to a few ms: the engines keep noise and oscillator state
    between utterances, so samples differ. Raises SpeechEngineError when an engine or voice is missing.
    """
    conditions = conditions or Conditions()
    rng = random.Random(f"render {seed}")
    agent = _voice(voices, rng)
    speaker = {"agent": agent, "caller": _voice(voices, rng, agent)}
    placed: list[tuple[RenderedTurn, np.ndarray]] = []
    holds: list[tuple[int, int]] = []
    at_ms = rng.randint(300, 1_500)
    for index, (role, text) in enumerate(turns):
        samples, _ = speak_written(text, speaker[role], rng)
        if index:
            previous = placed[-1][0]
            gap = _gap_ms(rng, conditions, previous.role == role)
            # Nobody barges in before the other has begun, and nobody talks over themselves.
            at_ms = max(previous.start_ms + 300, at_ms + gap)
            own_end = max((turn.end_ms for turn, _ in placed if turn.role == role), default=0)
            at_ms = max(at_ms, own_end + 200)
            if gap > 0 and rng.random() < conditions.hold:
                length = rng.randint(4_000, 12_000)
                holds.append((at_ms + 200, length))
                at_ms += length + 800
        end_ms = at_ms + len(samples) * 1_000 // TELEPHONE_RATE
        placed.append((RenderedTurn(role, text, at_ms, end_ms), samples))
        at_ms = end_ms
    last_ms = max((turn.end_ms for turn, _ in placed), default=at_ms)
    audio = np.zeros((2, (last_ms + rng.randint(300, 2_000)) * TELEPHONE_RATE // 1_000), np.float32)
    noise = np.random.default_rng(rng.getrandbits(64))
    for turn, samples in placed:
        start = turn.start_ms * TELEPHONE_RATE // 1_000
        audio[_channel(turn.role), start : start + len(samples)] += samples
    for start_ms, length_ms in holds:
        start, length = (ms * TELEPHONE_RATE // 1_000 for ms in (start_ms, length_ms))
        audio[AGENT_CHANNEL, start : start + length] += hold_music(length, noise)
    ordered = sorted((turn for turn, _ in placed), key=lambda turn: turn.start_ms)
    return RenderedCall(_through_line(audio, noise, conditions), tuple(ordered))


def _channel(role: Role) -> int:
    return AGENT_CHANNEL if role == "agent" else CALLER_CHANNEL


def _through_line(
    audio: np.ndarray, rng: np.random.Generator, conditions: Conditions
) -> np.ndarray:
    leak = audio[::-1] * 10 ** (-conditions.crosstalk_db / 20)
    heard = np.empty_like(audio)
    for channel, samples in enumerate(audio + leak):
        level = 0.09 * 10 ** (-rng.uniform(*conditions.noise_db) / 20)
        noisy = telephone_band(samples) + level * coloured_noise(
            len(samples), rng, rng.uniform(0, 1)
        )
        gained = np.clip(noisy * 10 ** (rng.uniform(-8, 6) / 20), -1, 1)
        heard[channel] = from_mu_law_bytes(mu_law_bytes(gained)) if conditions.mu_law else gained
    return heard
