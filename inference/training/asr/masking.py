"""Parts of the features hidden from the encoder (SpecAugment, Park et al., 2019), so that no single band decides."""

from __future__ import annotations

import torch
from torch import Tensor

_BANDS = 2
_WIDEST_BAND = 9  # mels, of the 59 that lie below 4 kHz
_MELS_BELOW_4_KHZ = 59
_LONGEST_GAP = 14  # frames of 10 ms: shorter than most syllables
_FRAMES_PER_GAP = 200


def mask_features(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Hide bands and short gaps of normalised features: [batch, 80, frames] → the same, what is hidden at its mean.

    Each window loses up to two bands, and about one gap in two seconds.
    """
    count, num_mels, num_frames = mel.shape

    def hidden(size: int, within: int, spans: int, widest: int) -> Tensor:
        """True [count, size] inside of any of `spans` random spans."""
        draw = torch.rand(2, count, spans, 1, device=mel.device, generator=generator)
        width = draw[0] * (widest + 1)
        start = draw[1] * (within - width)
        places = torch.arange(size, device=mel.device)
        return ((places >= start) & (places < start + width.floor())).any(1)

    bands = hidden(num_mels, _MELS_BELOW_4_KHZ, _BANDS, _WIDEST_BAND)
    gaps = hidden(num_frames, num_frames, max(1, num_frames // _FRAMES_PER_GAP), _LONGEST_GAP)
    mean = mel.mean((1, 2), keepdim=True)
    return torch.where(bands[:, :, None] | gaps[:, None, :], mean, mel)
