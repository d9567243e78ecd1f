"""The shape of the models that the GPU benchmarks run with random weights: LLaDA-8B's, if not said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference.diffusion.config import LladaConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What decides how long a step takes."""

    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    mlp: int = 12_288
    vocab: int = 126_464
    dtype: torch.dtype = torch.bfloat16

    def config(self, *, mask_token_id: int = 0, pad_token_id: int = 0) -> LladaConfig:
        """The same as a checkpoint says it."""
        return LladaConfig(
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_kv_heads=self.n_heads,
            mlp_hidden_size=self.mlp,
            vocab_size=self.vocab,
            embedding_size=self.vocab,
            max_sequence_length=4096,
            rope_theta=500_000.0,
            rms_norm_eps=1e-5,
            weight_tying=False,
            mask_token_id=mask_token_id,
            eos_token_id=pad_token_id,
            pad_token_id=pad_token_id,
        )
