"""The configuration of a LLaDA-family checkpoint, read from its `config.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

# Settings of the LLaDA code base that change the architecture, with the only value this engine implements. A key
# that is absent has this value in every published checkpoint.
_FIXED_SETTINGS: dict[str, object] = {
    "block_type": "llama",
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "rope": True,
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "scale_logits": False,
    "block_group_size": 1,
    "rope_scaling": None,
}


class ConfigError(ValueError):
    """A checkpoint's `config.json` is missing, malformed, or asks for something this engine does not implement."""


@dataclass(frozen=True, slots=True)
class LladaConfig:
    """Architecture and special token ids of one LLaDA-family model; field names are those of the published config."""

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    mlp_hidden_size: int
    vocab_size: int
    embedding_size: int
    max_sequence_length: int
    rope_theta: float
    rms_norm_eps: float
    weight_tying: bool
    mask_token_id: int
    eos_token_id: int
    pad_token_id: int
    prompt_isolated: bool = False

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Check and convert the content of a `config.json`.

        Raises:
            ConfigError: a key is missing, has the wrong type, or describes an architecture that is not implemented.
        """
        for key, supported in _FIXED_SETTINGS.items():
            if raw.get(key, supported) != supported:
                raise ConfigError(f"{key}={raw[key]!r} is not supported; only {supported!r} is")
        if raw.get("multi_query_attention"):
            raise ConfigError("multi_query_attention=True is not supported; set n_kv_heads=1")
        d_model, n_heads = _integer(raw, "d_model"), _integer(raw, "n_heads")
        vocab_size = _integer(raw, "vocab_size")
        eos_token_id = _integer(raw, "eos_token_id", minimum=0)
        config = cls(
            d_model=d_model,
            n_layers=_integer(raw, "n_layers"),
            n_heads=n_heads,
            n_kv_heads=_integer(raw, "n_kv_heads", default=n_heads),
            mlp_hidden_size=_integer(
                raw, "mlp_hidden_size", default=_integer(raw, "mlp_ratio", default=4) * d_model
            ),
            vocab_size=vocab_size,
            embedding_size=_integer(raw, "embedding_size", default=vocab_size),
            max_sequence_length=_integer(raw, "max_sequence_length"),
            rope_theta=_number(raw, "rope_theta", default=10_000.0),
            rms_norm_eps=_number(raw, "rms_norm_eps", default=1e-5),
            weight_tying=bool(raw.get("weight_tying", True)),
            mask_token_id=_integer(raw, "mask_token_id", minimum=0),
            eos_token_id=eos_token_id,
            pad_token_id=_integer(raw, "pad_token_id", minimum=0, default=eos_token_id),
            prompt_isolated=bool(raw.get("aftercall_prompt_isolated", False)),
        )
        config._check()
        return config

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `config.json` in a checkpoint directory.

        Raises:
            ConfigError: the file is missing, is not a JSON object, or is not supported (see `from_dict`).
        """
        path = directory / "config.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"{path} does not exist") from error
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not JSON: {error}") from error
        if not isinstance(raw, dict):
            raise ConfigError(f"{path} holds {type(raw).__name__}, not an object")
        return cls.from_dict(raw)

    def to_dict(self) -> dict[str, Any]:
        """The content of a `config.json` that `from_dict` and the published LLaDA code both read."""
        return {
            "architectures": ["LLaDAModelLM"],
            "model_type": "llada",
            **_FIXED_SETTINGS,
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "mlp_hidden_size": self.mlp_hidden_size,
            "vocab_size": self.vocab_size,
            "embedding_size": self.embedding_size,
            "max_sequence_length": self.max_sequence_length,
            "rope_theta": self.rope_theta,
            "rope_full_precision": True,
            "rms_norm_eps": self.rms_norm_eps,
            "weight_tying": self.weight_tying,
            "mask_token_id": self.mask_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
            "aftercall_prompt_isolated": self.prompt_isolated,
        }

    def _check(self) -> None:
        if self.d_model % self.n_heads or self.head_dim % 2:
            raise ConfigError(
                f"d_model={self.d_model} does not give n_heads={self.n_heads} even-sized heads"
            )
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(
                f"n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}"
            )
        if self.embedding_size < self.vocab_size:
            raise ConfigError(
                f"embedding_size={self.embedding_size} is below vocab_size={self.vocab_size}"
            )
        for key in ("mask_token_id", "eos_token_id", "pad_token_id"):
            if getattr(self, key) >= self.embedding_size:
                raise ConfigError(
                    f"{key}={getattr(self, key)} is outside embedding_size={self.embedding_size}"
                )


def _integer(raw: dict[str, Any], key: str, *, minimum: int = 1, default: int | None = None) -> int:
    value = raw.get(key)
    if value is None:
        value = default
    if value is None:
        raise ConfigError(f"{key} is missing")
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{key}={value!r} is not an integer of at least {minimum}")
    return value


def _number(raw: dict[str, Any], key: str, *, default: float) -> float:
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ConfigError(f"{key}={value!r} is not a positive number")
    return float(value)
