from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from inference.diffusion.checkpoint import (
    INDEX_FILE,
    CheckpointError,
    load_model,
    resolve_checkpoint,
    save_model,
    tensor_files,
)
from inference.diffusion.config import LladaConfig
from inference.diffusion.model import LladaModel

CONFIG = LladaConfig(
    d_model=16,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    mlp_hidden_size=24,
    vocab_size=40,
    embedding_size=40,
    max_sequence_length=64,
    rope_theta=1e4,
    rms_norm_eps=1e-5,
    weight_tying=False,
    mask_token_id=39,
    eos_token_id=38,
    pad_token_id=38,
)
NAME = "model.transformer.blocks.1.k_proj.weight"


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return LladaModel(CONFIG).state_dict()


def test_shards_stay_small_and_load_back(tmp_path: Path, weights: dict[str, Tensor]):
    save_model(tmp_path, CONFIG, weights, max_shard_bytes=4000)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert all(sum(t.numel() * 4 for t in load_file(shard).values()) <= 4000 for shard in shards)
    model = load_model(tmp_path)
    assert model.config == CONFIG
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_a_new_save_leaves_no_old_shard(tmp_path: Path, weights: dict[str, Tensor]):
    save_model(tmp_path, CONFIG, weights, max_shard_bytes=4000)
    save_model(tmp_path, CONFIG, weights)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == [
        "model-00001-of-00001.safetensors"
    ]
    assert set(tensor_files(tmp_path)) == set(weights)


def test_a_single_file_without_index_loads(tmp_path: Path, weights: dict[str, Tensor]):
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    assert load_model(tmp_path, dtype=torch.bfloat16).head_weight.dtype == torch.bfloat16


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors[NAME]


def misshape(tensors: dict[str, Tensor]) -> None:
    tensors[NAME] = torch.zeros(16, 16)


def add(tensors: dict[str, Tensor]) -> None:
    tensors["model.transformer.blocks.0.q_proj.bias"] = torch.zeros(16)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop, f"lacks: {NAME}"),
        (misshape, f"{NAME} .*shape"),
        (add, "unknown tensors: .*q_proj.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path,
    weights: dict[str, Tensor],
    change: Callable[[dict[str, Tensor]], None],
    said: str,
):
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    with pytest.raises(CheckpointError, match=said):
        load_model(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path, weights: dict[str, Tensor]):
    save_model(tmp_path, CONFIG, weights, max_shard_bytes=4000)
    victim = sorted(tmp_path.glob("*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(CheckpointError, match=victim.name):
        load_model(tmp_path)


def test_damaged_files_are_named(tmp_path: Path, weights: dict[str, Tensor]):
    save_model(tmp_path, CONFIG, weights)
    (tmp_path / "model-00001-of-00001.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_model(tmp_path)
    (tmp_path / INDEX_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="weight_map"):
        load_model(tmp_path)


def test_sources_are_directories_or_hub_ids(tmp_path: Path):
    assert resolve_checkpoint(tmp_path) == tmp_path
    for source in (tmp_path / "absent", "just-a-name", "./here/there"):
        with pytest.raises(CheckpointError, match="neither"):
            resolve_checkpoint(source)
    with pytest.raises(CheckpointError, match="an owner/na!me is no hub id"):
        resolve_checkpoint("an owner/na!me")


def test_hub_ids_are_downloaded_without_foreign_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: dict[str, object] = {}

    def snapshot_download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve_checkpoint("some/model", revision="v1") == tmp_path
    assert (asked["name"], asked["revision"]) == ("some/model", "v1")
    assert "*.py" not in str(asked["allow_patterns"])
