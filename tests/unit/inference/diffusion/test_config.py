from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inference.diffusion.config import ConfigError, LladaConfig

LLADA_8B: dict[str, Any] = {
    "activation_type": "silu",
    "alibi": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 4096,
    "embedding_size": 126464,
    "eos_token_id": 126081,
    "include_bias": False,
    "include_qkv_bias": False,
    "layer_norm_type": "rms",
    "mask_token_id": 126336,
    "max_sequence_length": 4096,
    "mlp_hidden_size": 12288,
    "mlp_ratio": 4,
    "model_type": "llada",
    "multi_query_attention": None,
    "n_heads": 32,
    "n_kv_heads": 32,
    "n_layers": 32,
    "pad_token_id": 126081,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "vocab_size": 126464,
    "weight_tying": False,
}


def test_llada_8b():
    config = LladaConfig.from_dict(LLADA_8B)
    assert (config.head_dim, config.n_kv_heads, config.rope_theta) == (128, 32, 5e5)
    assert (config.mask_token_id, config.pad_token_id) == (126336, 126081)
    assert not config.prompt_isolated


def test_illada_shape_is_supported():
    changes = {
        "n_kv_heads": 8,
        "mlp_hidden_size": 14336,
        "vocab_size": 155136,
        "embedding_size": 155136,
        "max_sequence_length": 8192,
        "weight_tying": True,
        "mask_token_id": 5,
        "eos_token_id": 2,
        "pad_token_id": None,
    }
    config = LladaConfig.from_dict(LLADA_8B | changes)
    assert (config.n_kv_heads, config.weight_tying, config.mask_token_id) == (8, True, 5)
    assert config.pad_token_id == 2


def test_absent_sizes_follow_the_published_defaults():
    raw = {
        k: v
        for k, v in LLADA_8B.items()
        if k not in ("n_kv_heads", "embedding_size", "mlp_hidden_size")
    }
    config = LladaConfig.from_dict(raw)
    assert (config.n_kv_heads, config.embedding_size, config.mlp_hidden_size) == (32, 126464, 16384)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"block_type": "sequential"}, "block_type"),
        ({"activation_type": "swiglu"}, "activation_type"),
        ({"alibi": True}, "alibi"),
        ({"include_qkv_bias": True}, "include_qkv_bias"),
        ({"scale_logits": True}, "scale_logits"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling"),
        ({"multi_query_attention": True}, "multi_query_attention"),
        ({"n_kv_heads": 5}, "n_kv_heads"),
        ({"n_heads": 30, "n_kv_heads": 30}, "n_heads"),
        ({"d_model": "4096"}, "d_model"),
        ({"n_layers": 0}, "n_layers"),
        ({"mask_token_id": None}, "mask_token_id"),
        ({"mask_token_id": 126464}, "mask_token_id"),
        ({"embedding_size": 1000}, "embedding_size"),
        ({"rope_theta": -1.0}, "rope_theta"),
    ],
)
def test_what_is_not_supported_is_named(changes: dict[str, Any], named: str):
    with pytest.raises(ConfigError, match=named):
        LladaConfig.from_dict(LLADA_8B | changes)


def test_config_survives_its_file(tmp_path: Path):
    config = LladaConfig.from_dict(LLADA_8B | {"aftercall_prompt_isolated": True})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert LladaConfig.load(tmp_path) == config


@pytest.mark.parametrize(
    ("text", "named"), [(None, "does not exist"), ("{", "not JSON"), ("[]", "list")]
)
def test_unreadable_files_are_named(tmp_path: Path, text: str | None, named: str):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=named):
        LladaConfig.load(tmp_path)
