"""Hidden parts of features: few, short, in every window others."""

import torch

from inference.training.asr.masking import mask_features


def test_little_is_hidden_and_every_window_loses_something_else() -> None:
    mel = torch.randn(8, 80, 3_000, generator=torch.Generator().manual_seed(0))
    masked = mask_features(mel, torch.Generator().manual_seed(1))
    hidden = masked != mel
    assert 0.02 < hidden.float().mean() < 0.3
    assert len({row.numpy().tobytes() for row in hidden}) == 8
    means = mel.mean((1, 2), keepdim=True).expand_as(mel)
    assert torch.equal(masked[hidden], means[hidden])
    whole_bands = hidden.all(2)
    assert not whole_bands[:, 59:].any()
    assert whole_bands.sum(1).max() <= 18


def test_a_short_window_is_masked_too() -> None:
    mel = torch.randn(4, 80, 90)
    assert mask_features(mel, torch.Generator().manual_seed(1)).shape == mel.shape
