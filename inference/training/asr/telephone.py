"""Telephone lines on the training device: windows gathered from the pool, filtered, noised, clipped, µ-law coded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 8_000
SOUNDS = ("none", "music", "ringing", "noise")
_QUIET_MS = 300
_COLOUR_WAVES = 6  # the finest ripple of a colouring is 1.3 kHz long, as wide as a formant's range


@dataclass(frozen=True, slots=True)
class Placement:
    """Where utterances go, one row per piece, all int64 [pieces] but `speed` and `gain` (float32)."""

    window: Tensor
    start: Tensor  # first sample inside the window
    source: Tensor  # first sample in the pool
    length: Tensor  # samples placed in the window
    source_length: Tensor  # samples of the utterance in the pool
    total: int  # sum of `length`, known on the host
    speed: Tensor  # 1.05 reads the source 5 % faster, with pitch and formants
    gain: Tensor


def gather(buffer: Tensor, placement: Placement, num_windows: int, num_samples: int) -> Tensor:
    """Lay pool speech out in windows: float32 [num_windows, num_samples], zeros between pieces.

    `buffer` is the pool's int16 samples. Speeds other than 1 interpolate linearly.
    """
    lengths = placement.length
    ends = lengths.cumsum(0)
    piece = torch.repeat_interleave(
        torch.arange(len(lengths), device=buffer.device), lengths, output_size=placement.total
    )
    inside = torch.arange(placement.total, device=buffer.device) - (ends - lengths)[piece]
    position = inside * placement.speed[piece]
    whole = position.long()
    fraction = position - whole
    last = placement.source_length[piece] - 1
    first = buffer[placement.source[piece] + torch.minimum(whole, last)].float()
    second = buffer[placement.source[piece] + torch.minimum(whole + 1, last)].float()
    samples = (first + (second - first) * fraction) * (placement.gain[piece] / 32_768)
    windows = torch.zeros(num_windows * num_samples, device=buffer.device)
    windows[placement.window[piece] * num_samples + placement.start[piece] + inside] = samples
    return windows.view(num_windows, num_samples)


def mu_law(samples: Tensor) -> Tensor:
    """Code to 8-bit µ-law and back: values in [-1, 1] to the nearest of 255 levels."""
    companded = samples.sign() * torch.log1p(255 * samples.abs().clamp(max=1)) / math.log(256)
    quantised = (companded * 127).round() / 127
    return quantised.sign() * torch.expm1(quantised.abs() * math.log(256)) / 255


class TelephoneLine:
    """Random line conditions, one draw per window; all randomness from one generator on the device."""

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self._device = device
        self._generator = generator

    def _uniform(self, count: int, low: float, high: float) -> Tensor:
        draw = torch.rand(count, 1, device=self._device, generator=self._generator)
        return low + (high - low) * draw

    def _chance(self, count: int, probability: float) -> Tensor:
        return self._uniform(count, 0, 1) < probability

    def _band(self, count: int, bins: int) -> Tensor:
        """Magnitude response [count, bins] of a telephone band with random edges and tilt, or a flat one."""
        hz = torch.linspace(0, SAMPLE_RATE / 2, bins, device=self._device)[None]
        low, high = self._uniform(count, 50, 350), self._uniform(count, 3_250, 3_900)
        band = torch.sigmoid((hz - low) / 25) * torch.sigmoid((high - hz) / 60)
        tilt = 10 ** (self._uniform(count, -6, 6) / 20 * (hz / 2_000 - 0.5))
        line = torch.where(self._chance(count, 0.8), band * tilt, torch.ones_like(band))
        return line * torch.where(self._chance(count, 0.7), self._colour(hz, count), 1.0)

    def _colour(self, hz: Tensor, count: int) -> Tensor:
        """A smooth random response [count, bins], some 4 dB up and down: another throat, another handset."""
        waves = torch.arange(1, 1 + _COLOUR_WAVES, device=self._device)
        size = (count, _COLOUR_WAVES)
        gains_db = 2 * torch.randn(size, device=self._device, generator=self._generator)
        shapes = torch.cos(math.pi * waves[:, None] * hz / (SAMPLE_RATE / 2))
        return 10 ** (gains_db @ shapes / 20)

    def _echo(self, count: int, bins: int) -> Tensor:
        """Complex response of one faint reflection (a speakerphone, a line echo), or none."""
        hz = torch.linspace(0, SAMPLE_RATE / 2, bins, device=self._device)[None]
        delay, strength = self._uniform(count, 0.004, 0.06), self._uniform(count, 0.05, 0.3)
        strength = strength * self._chance(count, 0.3)
        return 1 + strength * torch.exp(-2j * math.pi * hz * delay)

    def _noise(self, count: int, num_samples: int) -> Tensor:
        """Coloured noise [count, num_samples] of unit power: white to brown, or mains hum."""
        white = torch.randn(count, num_samples, device=self._device, generator=self._generator)
        spectrum = torch.fft.rfft(white)
        hz = torch.linspace(1, SAMPLE_RATE / 2, spectrum.shape[1], device=self._device)[None]
        coloured = torch.fft.irfft(
            spectrum * (hz / 1_000).clamp(min=0.05) ** -self._uniform(count, 0, 1.2), num_samples
        )
        time = torch.arange(num_samples, device=self._device)[None] / SAMPLE_RATE
        mains = 50 + 10 * self._chance(count, 0.5).float()
        hum = torch.sin(2 * math.pi * mains * time) + 0.4 * torch.sin(6 * math.pi * mains * time)
        noise = coloured + hum * self._chance(count, 0.15) * 2
        return noise / noise.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)

    def _music(self, count: int, num_samples: int) -> Tensor:
        """Hold music: three voices of notes or of chords that last four of them, plucked or sustained."""
        time = torch.arange(num_samples, device=self._device)[None] / SAMPLE_RATE
        beat = time * self._uniform(count, 1, 4)
        bar = beat.long()
        notes = int(num_samples / SAMPLE_RATE * 4) + 2
        total = torch.zeros(count, num_samples, device=self._device)
        for octave in (0, 1, 2):
            pitch = torch.randint(
                0, 12, (count, notes), device=self._device, generator=self._generator
            )
            note = torch.where(self._chance(count, 0.4), bar // 4, bar)
            hz = 110 * 2 ** (octave + pitch / 12)
            phase = 2 * math.pi * hz.gather(1, note) * time
            decay = self._uniform(count, 0.2, 4) * self._chance(count, 0.7)
            envelope = torch.exp(-decay * (beat - bar)) * self._uniform(count, 0.3, 1)
            overtones = self._uniform(count, 0, 0.6)
            total += envelope * (
                phase.sin() + overtones * (2 * phase).sin() + overtones**2 * (3 * phase).sin()
            )
        return total * 0.1 * 10 ** self._uniform(count, -0.6, 0.4)

    def _sound(self, kind: str, count: int, num_samples: int) -> Tensor:
        """One of SOUNDS for `count` windows."""
        if kind == "music":
            return self._music(count, num_samples)
        if kind == "noise":
            return self._noise(count, num_samples) * 10 ** self._uniform(count, -2, -0.7)
        time = torch.arange(num_samples, device=self._device)[None] / SAMPLE_RATE
        tone = (2 * math.pi * 440 * time).sin() + (2 * math.pi * 480 * time).sin()
        # Two seconds of ringing, four of silence, begun anywhere.
        return 0.06 * tone * (((time + self._uniform(count, 0, 6)) % 6) < 2)

    def _add_sounds(self, windows: Tensor, sounds: Tensor) -> None:
        """Fill silences, farther than 0.3 s from speech, in place."""
        reach = SAMPLE_RATE * _QUIET_MS // 1000
        for index, kind in enumerate(SOUNDS[1:], 1):
            rows = (sounds == index).nonzero().flatten().to(self._device)
            if not len(rows):
                continue
            chosen = windows[rows]
            heard = F.pad((chosen != 0).float(), (reach + 1, reach)).cumsum(1)
            near_speech = heard[:, 2 * reach + 1 :] - heard[:, : -2 * reach - 1] > 0
            windows[rows] = chosen + self._sound(kind, *chosen.shape) * ~near_speech

    def __call__(self, windows: Tensor, sounds: Tensor) -> Tensor:
        """float32 [batch, n] clean at 8 kHz → the same as heard at the far end of a line.

        `windows` is changed in place. `sounds` [batch], on the host, indexes SOUNDS: what is heard where a window is
        silent.
        """
        count, num_samples = windows.shape
        self._add_sounds(windows, sounds)
        # A neighbour's speech, faint: crosstalk, the other side's echo, a television.
        leak = windows.roll(1, 0) * 10 ** (self._uniform(count, -42, -24) / 20)
        windows = windows + leak * self._chance(count, 0.15)
        spectrum = torch.fft.rfft(windows)
        spectrum = spectrum * self._band(count, spectrum.shape[1])
        spectrum = spectrum * self._echo(count, spectrum.shape[1])
        heard = torch.fft.irfft(spectrum, num_samples)
        # Speech lies at about 0.09 RMS before the gain: the ratio is signal to noise in dB while speaking.
        ratio_db = torch.where(
            self._chance(count, 0.75), self._uniform(count, 14, 50), self._uniform(count, 60, 90)
        )
        heard = heard + self._noise(count, num_samples) * 0.09 * 10 ** (-ratio_db / 20)
        heard = heard * 10 ** (self._uniform(count, -22, 12) / 20)
        heard = heard.clamp(-1, 1)
        coded = torch.where(self._chance(count, 0.6), mu_law(heard), heard)
        return (coded * 32_768).round().clamp(-32_768, 32_767) / 32_768
