"""Hidden parts of features: few, short, in every window others."""

import torch

from inference.training.asr.masking import mask_features, warp_features


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


def test_a_bend_moves_formants_a_little_and_leaves_the_ends() -> None:
    peak = 25
    mel = torch.zeros(200, 80, 6)
    mel[:, peak - 1 : peak + 2] = torch.tensor([0.5, 1.0, 0.5])[:, None]
    mel[:, 79] = 1
    warped = warp_features(mel, torch.Generator().manual_seed(1))
    assert warped.shape == mel.shape
    moved = (warped[:, :60, 0].argmax(1) - peak).abs()
    assert (moved == 0).float().mean() > 0.4
    assert 0 < moved.max() <= 5
    assert torch.equal(warped[:, 79], mel[:, 79])
    assert torch.equal(warped[..., 0], warped[..., 5])
    assert ((warped >= 0) & (warped <= 1 + 1e-6)).all()


def test_a_flat_spectrum_stays_flat_when_bent() -> None:
    flat = torch.full((20, 80, 3), 0.7)
    torch.testing.assert_close(warp_features(flat, torch.Generator().manual_seed(2)), flat)
