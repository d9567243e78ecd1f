import numpy as np
import pytest
import torch
from faster_whisper.feature_extractor import FeatureExtractor

from inference.training.asr.features import LogMel, mel_filters
from inference.training.asr.telephone import SOUNDS, Placement, TelephoneLine, gather, mu_law

_CPU = torch.device("cpu")


def test_filters_are_those_of_faster_whisper() -> None:
    assert np.array_equal(FeatureExtractor().mel_filters, mel_filters().numpy())


@pytest.mark.parametrize("num_samples", [16_000, 48_160])
def test_features_are_those_of_faster_whisper(num_samples: int) -> None:
    samples = np.random.default_rng(0).standard_normal(num_samples).astype(np.float32)
    samples *= 0.1 * np.sin(np.arange(num_samples) / 5_000).astype(np.float32)
    wanted = FeatureExtractor()(samples, padding=0)
    log_mel = LogMel(_CPU)
    power = log_mel.log_power(torch.from_numpy(samples)[None])
    frames = torch.tensor([num_samples // 160])
    made = log_mel.normalise(power, torch.zeros(1), frames)[0].numpy()
    assert made.shape == wanted.shape
    assert np.abs(made - wanted).max() < 1e-5


def test_padding_is_zero_and_does_not_set_the_level() -> None:
    log_mel = LogMel(_CPU)
    power = torch.full((2, 80, 10), -4.0)
    power[:, :, 8:] = 3.0
    made = log_mel.normalise(power, torch.tensor([0.0, 10.0]), torch.tensor([8, 8]))
    assert (made[:, :, 8:] == 0).all()
    assert (made[0, :, :8] == 0).all()
    assert torch.allclose(made[1, :, :8], torch.tensor((-2 + 4) / 4))


def test_upsampling_keeps_samples_and_interpolates() -> None:
    time = torch.arange(4_000) / 8_000
    tone = torch.sin(2 * torch.pi * 1_500 * time)[None]
    doubled = LogMel(_CPU).upsample(tone)[0]
    wanted = torch.sin(2 * torch.pi * 1_500 * torch.arange(8_000) / 16_000)
    assert torch.equal(doubled[::2], tone[0])
    assert (doubled - wanted)[200:-200].abs().max() < 1e-3


def _placement(rows: list[tuple[int, int, int, int, int]], speeds: list[float]) -> Placement:
    columns = [torch.tensor(column) for column in zip(*rows, strict=True)]
    return Placement(
        window=columns[0],
        start=columns[1],
        source=columns[2],
        length=columns[3],
        source_length=columns[4],
        total=sum(row[3] for row in rows),
        speed=torch.tensor(speeds),
        gain=torch.full((len(rows),), 0.5),
    )


def test_gather_lays_pieces_where_they_belong() -> None:
    buffer = torch.arange(1, 1_001, dtype=torch.int16)
    rows = [(0, 5, 100, 50, 50), (0, 70, 300, 20, 40), (2, 0, 600, 63, 70)]
    windows = gather(buffer, _placement(rows, [1.0, 2.0, 1.1]), 3, 100)
    wanted = np.zeros((3, 100), np.float32)
    for (window, start, source, length, source_length), speed in zip(
        rows, (1.0, 2.0, 1.1), strict=True
    ):
        piece = buffer[source : source + source_length].numpy().astype(np.float32)
        at = np.arange(length) * speed
        heard = np.interp(at, np.arange(source_length), piece)
        wanted[window, start : start + length] = heard * 0.5 / 32_768
    assert np.abs(windows.numpy() - wanted).max() < 1e-6


def test_the_line_changes_windows_finitely_and_by_its_seed_alone() -> None:
    clean = torch.zeros(6, 8_000)
    clean[:3, 2_000:6_000] = torch.randn(3, 4_000, generator=torch.Generator().manual_seed(0)) * 0.1
    sounds = torch.tensor([0, 1, 3, 1, 2, 3])

    def heard(seed: int) -> torch.Tensor:
        return TelephoneLine(_CPU, torch.Generator().manual_seed(seed))(clean.clone(), sounds)

    assert torch.equal(heard(1), heard(1))
    assert not torch.equal(heard(1), heard(2))
    assert torch.isfinite(heard(1)).all()
    assert heard(1).abs().max() <= 1


def test_sounds_fill_silence_only() -> None:
    clean = torch.zeros(1, 24_000)
    clean[:, 10_000:12_000] = 0.1
    line = TelephoneLine(_CPU, torch.Generator().manual_seed(0))
    filled = clean.clone()
    line._add_sounds(filled, torch.tensor([SOUNDS.index("music")]))
    assert torch.equal(filled[:, 8_000:14_000], clean[:, 8_000:14_000])
    assert filled[:, :7_000].std() > 0.01


def test_mu_law_has_few_levels_and_small_errors() -> None:
    samples = torch.linspace(-1, 1, 10_001)
    coded = mu_law(samples)
    assert len(coded.unique()) <= 255
    assert (coded - samples).abs().max() < 0.03
