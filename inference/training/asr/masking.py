"""Features changed before the encoder sees them: bands and gaps hidden (SpecAugment, Park et al., 2019), so that no
single band decides, and the frequency axis bent (after VTLP, Jaitly and Hinton, 2013), for vowels of other mouths."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_BANDS = 2
_WIDEST_BAND = 9  # mels, of the 59 that lie below 4 kHz
_MELS_BELOW_4_KHZ = 59
_LONGEST_GAP = 14  # frames of 10 ms: shorter than most syllables
_FRAMES_PER_GAP = 200
_WARPED = 0.5  # of the windows
# Mels, standard deviation of the two bends. Below 1 kHz a mel bin is 38 Hz wide, above it 4 %: accents move a vowel's
# formants by some 100 Hz and 10 %, two to three bins.
_BENDS = (1.2, 1.0)


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


def warp_features(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Bend the frequency axis below 4 kHz of half of the windows: [batch, 80, frames] → the same.

    A bend moves all formants, another one moves low ones against high ones; the ends of the band stay.
    """
    count, num_mels, _ = mel.shape
    device = mel.device
    sizes = torch.randn(len(_BENDS), count, 1, device=device, generator=generator)
    chosen = torch.rand(count, 1, device=device, generator=generator) < _WARPED
    places = torch.arange(num_mels, device=device)
    along = math.pi * (places / _MELS_BELOW_4_KHZ).clamp(max=1)
    bend = sum(
        size.clamp(-2, 2) * deviation * torch.sin(number * along)
        for number, (size, deviation) in enumerate(zip(sizes, _BENDS, strict=True), 1)
    )
    source = (places + bend * chosen).clamp(0, num_mels - 1)
    # Linear interpolation between neighbouring mels, as a product with [batch, 80, 80].
    weights = (1 - (source[:, :, None] - places).abs()).clamp(min=0)
    return weights @ mel
