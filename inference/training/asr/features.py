"""Whisper's log-mel features on the training device, the same numbers as faster-whisper's extractor."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 16_000
_FFT, _HOP, _MELS = 400, 160, 80
_UPSAMPLING_TAPS = 32


def mel_filters() -> Tensor:
    """Slaney-style filter bank [80, 201] over 0 to 8 kHz at 16 kHz."""
    fft_hz = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    # Slaney's mel scale: linear to 1 kHz (15 mels), then 27 mels for each factor of 6.4.
    mels = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), _MELS + 2)
    hz = np.where(mels < 15, mels * 200 / 3, 1_000 * 6.4 ** ((mels - 15) / 27))
    widths = np.diff(hz)
    ramps = hz[:, None] - fft_hz[None, :]
    lower, upper = -ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]
    weights = np.maximum(0, np.minimum(lower, upper)) * (2 / (hz[2:] - hz[:-2]))[:, None]
    return torch.from_numpy(weights.astype(np.float32))


def upsampling_kernel() -> Tensor:
    """Half-band windowed sinc [2 · taps + 1] that doubles 8 kHz to 16 kHz."""
    steps = torch.arange(-_UPSAMPLING_TAPS, _UPSAMPLING_TAPS + 1, dtype=torch.float64)
    window = torch.signal.windows.kaiser(len(steps), beta=8.0, sym=True, dtype=torch.float64)
    return (torch.sinc(steps / 2) * window).float()


class LogMel:
    """Log-mel of batches of 8 kHz windows."""

    def __init__(self, device: torch.device) -> None:
        self._filters = mel_filters().to(device)
        self._window = torch.hann_window(_FFT, device=device)
        self._kernel = upsampling_kernel().to(device)

    def upsample(self, samples: Tensor) -> Tensor:
        """float32 [batch, n] at 8 kHz → [batch, 2n] at 16 kHz."""
        even = samples
        # Between two samples: the odd taps of the half-band filter; on a sample it is the sample itself.
        odd_taps = self._kernel[1::2]
        padded = F.pad(samples, (len(odd_taps) // 2 - 1, len(odd_taps) // 2))
        odd = F.conv1d(padded[:, None], odd_taps[None, None])[:, 0]
        return torch.stack((even, odd), dim=-1).flatten(1)

    def log_power(self, samples: Tensor) -> Tensor:
        """float32 [batch, n] at 16 kHz → log10 mel power [batch, 80, n / 160], not yet normalised."""
        spectrum = torch.stft(
            samples, _FFT, _HOP, window=self._window, center=True, return_complex=True
        )
        power = spectrum[..., :-1].abs().square()
        return (self._filters @ power).clamp(min=1e-10).log10()

    def normalise(self, log_power: Tensor, headroom: Tensor, frames: Tensor) -> Tensor:
        """Clamp to 8 below the file's maximum, scale, and put 0 behind each window's real end.

        faster-whisper normalises over the whole file and then pads the window with 0.0. `headroom` [batch] (log10
        units, >= 0) says how much louder the file's loudest frame is than the window's; `frames` [batch] is the
        window's real length in frames.
        """
        positions = torch.arange(log_power.shape[-1], device=log_power.device)
        real = positions < frames[:, None]
        peak = log_power.amax(dim=1).masked_fill(~real, -10).amax(dim=1) + headroom
        clamped = torch.maximum(log_power, (peak - 8)[:, None, None])
        return ((clamped + 4) / 4) * real[:, None]
