"""The mean of checkpoints: every weight, how much each counts, and what cannot be averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from inference.diffusion.checkpoint import CheckpointError, load_model, save_model
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm import TrainingError
from inference.training.dllm.average import average_checkpoints
from inference.training.dllm.start import fresh_model
from tests.unit.inference.training.tiny_run import CPU, small_model
from workers.cli import app


@pytest.fixture
def two(tmp_path: Path, tokenizer: DiffusionTokenizer) -> list[Path]:
    paths = [tmp_path / "first", tmp_path / "second"]
    for seed, path in enumerate(paths):
        model = fresh_model(small_model(tokenizer)[0], seed=seed, device=CPU).bfloat16()
        save_model(path, model.config, model.state_dict())
        tokenizer.save(path, max_length=2048)
    return paths


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path).state_dict()


def test_every_weight_is_the_mean_rounded_once(tmp_path: Path, two: list[Path]) -> None:
    average_checkpoints(two, tmp_path / "mean", parts=[3, 1])
    first, second, mean = (weights(path) for path in (*two, tmp_path / "mean"))
    assert mean.keys() == first.keys()
    num_changed = 0
    for name, tensor in mean.items():
        wanted = (3 * first[name].float() + second[name].float()) / 4
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, wanted.bfloat16())
        num_changed += not torch.equal(tensor, first[name])
    assert num_changed > 5


def test_the_mean_is_a_checkpoint_with_the_sources_tokenizer(
    tmp_path: Path, two: list[Path], tokenizer: DiffusionTokenizer
) -> None:
    average_checkpoints(two, tmp_path / "mean")
    config = load_model(tmp_path / "mean").config
    assert config == load_model(two[0]).config
    read = DiffusionTokenizer.load(tmp_path / "mean", config)
    assert read.encode("Hello there") == tokenizer.encode("Hello there")


@pytest.mark.parametrize("parts", [[1.0], [1.0, 0.0], [1.0, 1.0, 1.0]])
def test_parts_that_do_not_fit_are_refused(
    tmp_path: Path, two: list[Path], parts: list[float]
) -> None:
    with pytest.raises(TrainingError, match="positive part for each"):
        average_checkpoints(two, tmp_path / "mean", parts=parts)
    with pytest.raises(TrainingError, match="two or more"):
        average_checkpoints(two[:1], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_another_tokenizer_is_refused(tmp_path: Path, two: list[Path]) -> None:
    path = two[1] / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"second has another tokenizer than .*first"):
        average_checkpoints(two, tmp_path / "mean")


def test_another_architecture_is_refused(tmp_path: Path, two: list[Path]) -> None:
    path = two[1] / "config.json"
    text = path.read_text(encoding="utf-8")
    assert '"rope_theta": 10000.0' in text
    path.write_text(text.replace('"rope_theta": 10000.0', '"rope_theta": 500000.0'))
    with pytest.raises(TrainingError, match=r"second has another architecture than .*first"):
        average_checkpoints(two, tmp_path / "mean")


def test_a_missing_checkpoint_is_named(tmp_path: Path, two: list[Path]) -> None:
    (two[1] / "config.json").unlink()
    with pytest.raises((CheckpointError, ValueError), match="second"):
        average_checkpoints(two, tmp_path / "mean")


def test_the_command_averages_and_tells_what_is_wrong(tmp_path: Path, two: list[Path]) -> None:
    sources, out = [str(path) for path in two], tmp_path / "mean"
    done = CliRunner().invoke(
        app, ["train", "average", str(out), *sources, "--part", "2", "--part", "1"]
    )
    assert done.exit_code == 0, done.output
    average_checkpoints(two, tmp_path / "again", parts=[2, 1])
    for name, tensor in weights(tmp_path / "again").items():
        assert torch.equal(tensor, weights(out)[name])
    refused = CliRunner().invoke(app, ["train", "average", str(out), sources[0]])
    assert refused.exit_code == 1
    assert "two or more checkpoints are needed" in refused.output.replace("\n", " ")
