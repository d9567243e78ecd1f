"""Written text to telephone-rate samples in a voice."""

from __future__ import annotations

import random
from functools import cache

import numpy as np

from analytics.simulator.speech.espeak import SAMPLE_RATE as ESPEAK_RATE
from analytics.simulator.speech.espeak import Espeak, SpeechEngineError
from analytics.simulator.speech.flite import Flite
from analytics.simulator.speech.verbalise import verbalise
from analytics.simulator.speech.voices import Voice

TELEPHONE_RATE = 8_000
_RMS_TARGET = 0.09
_EDGE_MS = 20


def resample_to_telephone(samples: np.ndarray, rate: int, speed: float = 1.0) -> np.ndarray:
    """float32 [n] at `rate` → float32 at 8 kHz, band-limited below 4 kHz, through one FFT.

    `speed` plays it faster, with pitch and formants higher by the same factor.
    Raises ValueError when no short exact ratio to 8 kHz is known for the rate.
    """
    blocks = {8_000: (4_096, 4_096), 16_000: (8_192, 4_096), 22_050: (14_112, 5_120)}
    if rate not in blocks:
        raise ValueError(f"no resampling from {rate} Hz")
    if rate == TELEPHONE_RATE and speed == 1.0:
        return samples.astype(np.float32)
    block_in, block_out = blocks[rate]
    count = -(-len(samples) // block_in)
    size_in, size_out = count * block_in, 2 * round(count * block_out / speed / 2)
    spectrum = np.fft.rfft(samples, size_in)[: size_out // 2 + 1]
    # The last tenth of the band fades out, or the cut at 4 kHz rings.
    fade = len(spectrum) // 10
    spectrum[-fade:] *= np.linspace(1, 0, fade)
    resampled = np.fft.irfft(spectrum, size_out) * (size_out / size_in)
    return resampled[: len(samples) * size_out // size_in].astype(np.float32)


def trim_silence(samples: np.ndarray, rate: int) -> np.ndarray:
    """Cut what is quieter than 1 % of the peak off both ends, but for 20 ms; empty when nothing sounds."""
    if not len(samples):
        return samples
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    if not len(loud):
        return samples[:0]
    edge = rate * _EDGE_MS // 1000
    return samples[max(0, loud[0] - edge) : loud[-1] + edge]


@cache
def _espeak() -> Espeak:
    return Espeak()


@cache
def _flite() -> Flite:
    return Flite()


def say(spoken: str, voice: Voice, rng: random.Random) -> np.ndarray:
    """Speak words (already verbalised): float32 [n] at 8 kHz, silence trimmed, level evened out.

    Rate and pitch are drawn from `rng`. Raises SpeechEngineError when an engine is missing or gives no sound.
    """
    if voice.engine == "espeak":
        raw = _espeak().speak(
            spoken,
            voice.name,
            words_per_minute=rng.randint(135, 215),
            pitch=rng.randint(25, 75),
            pitch_range=rng.randint(30, 75),
        )
        rate = ESPEAK_RATE
        speed = 1.0
    else:
        # Playing it faster shifts the formants; tempo and pitch are set against it, so that the three vary apart.
        speed, pitch = (1 + rng.uniform(-1, 1) * voice.variation for _ in range(2))
        stretch = rng.uniform(0.8, 1.2) * speed
        raw, rate = _flite().speak(spoken, voice.name, stretch=stretch, pitch=pitch / speed)
    telephone = resample_to_telephone(raw.astype(np.float32) / 32_768, rate, speed)
    samples = trim_silence(telephone, TELEPHONE_RATE)
    if len(samples) < TELEPHONE_RATE // 20:
        raise SpeechEngineError(f"{voice.label} gave no sound for {spoken!r}")
    level = float(np.sqrt(np.mean(samples**2)))
    return np.clip(samples * (_RMS_TARGET / level), -0.99, 0.99)


def speak_written(written: str, voice: Voice, rng: random.Random) -> tuple[np.ndarray, str]:
    """Speak written text: (float32 samples at 8 kHz, the words that were said)."""
    spoken = verbalise(written, rng)
    return say(spoken, voice, rng), spoken
