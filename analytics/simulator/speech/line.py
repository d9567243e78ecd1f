"""What a telephone line does to a channel, and what is on it when nobody speaks."""

from __future__ import annotations

import numpy as np

from analytics.simulator.speech.synthesis import TELEPHONE_RATE


def telephone_band(samples: np.ndarray, low_hz: float = 250, high_hz: float = 3_500) -> np.ndarray:
    """float32 [n] with what lies outside the band faded out."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / TELEPHONE_RATE)
    band = 1 / (1 + np.exp((low_hz - hz) / 25)) / (1 + np.exp((hz - high_hz) / 60))
    return np.fft.irfft(spectrum * band, len(samples)).astype(np.float32)


def coloured_noise(num_samples: int, rng: np.random.Generator, slope: float = 0.5) -> np.ndarray:
    """float32 [n] of unit power: slope 0 is white, 1 falls by 6 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    hz = np.maximum(np.fft.rfftfreq(num_samples, 1 / TELEPHONE_RATE), 50)
    noise = np.fft.irfft(spectrum * (hz / 1_000) ** -slope, num_samples)
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def hold_music(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [n]: a chord progression with a plucked melody over it, at about 0.08 RMS."""
    time = np.arange(num_samples) / TELEPHONE_RATE
    beat_s = rng.uniform(0.3, 0.6)
    beat = (time / beat_s).astype(int)
    within = time - beat * beat_s
    key = 130.8 * 2 ** (rng.integers(0, 12) / 12)
    chord_roots = rng.choice([0, 5, 7, 9], size=beat[-1] // 4 + 1)
    scale = np.array([0, 2, 4, 7, 9, 12])
    melody = scale[rng.integers(0, len(scale), size=beat[-1] + 1)]
    music = np.zeros(num_samples)
    for interval, loudness in ((0, 1.0), (4, 0.6), (7, 0.6)):
        hz = key * 2 ** ((chord_roots[beat // 4] + interval) / 12)
        music += loudness * np.sin(2 * np.pi * hz * time)
    hz = 2 * key * 2 ** ((chord_roots[beat // 4] + melody[beat]) / 12)
    pluck = np.exp(-4 * within / beat_s)
    music += 1.5 * pluck * (np.sin(2 * np.pi * hz * time) + 0.5 * np.sin(4 * np.pi * hz * time))
    return (0.08 * music / (music.std() + 1e-9)).astype(np.float32)


def mu_law_bytes(samples: np.ndarray) -> np.ndarray:
    """float [n] in [-1, 1] → G.711 µ-law code bytes (uint8)."""
    pcm = np.clip(samples * 32_768, -32_635, 32_635).astype(np.int32)
    magnitude = np.abs(pcm) + 132
    exponent = np.clip(np.floor(np.log2(magnitude)).astype(np.int32) - 7, 0, 7)
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    sign = np.where(pcm < 0, 0x80, 0)
    return (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8)


def from_mu_law_bytes(codes: np.ndarray) -> np.ndarray:
    """G.711 µ-law code bytes → float32 [n]."""
    inverted = ~codes.astype(np.int32) & 0xFF
    exponent, mantissa = (inverted >> 4) & 0x07, inverted & 0x0F
    magnitude = ((mantissa << 3) + 132 << exponent) - 132
    return (np.where(inverted & 0x80, -magnitude, magnitude) / 32_768).astype(np.float32)
