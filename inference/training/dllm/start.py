"""The model a run starts from: fresh weights of the embedded size, or a checkpoint."""

from __future__ import annotations

import math

import torch
from torch import nn

from inference.diffusion.config import LladaConfig
from inference.diffusion.model import LladaModel
from inference.diffusion.tokenizer import DiffusionTokenizer


def embedded_config(
    tokenizer: DiffusionTokenizer,
    *,
    d_model: int = 384,
    n_layers: int = 10,
    n_heads: int = 6,
    mlp_hidden_size: int = 960,
    max_sequence_length: int = 2048,
    tie_embeddings: bool = False,
) -> LladaConfig:
    """The embedded checkpoint's architecture for a tokenizer: with 3,840 tokens, 19.9 M parameters (40 MB in bf16)."""
    return LladaConfig(
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        mlp_hidden_size=mlp_hidden_size,
        vocab_size=tokenizer.vocab_size,
        embedding_size=tokenizer.vocab_size,
        max_sequence_length=max_sequence_length,
        rope_theta=10_000.0,
        rms_norm_eps=1e-5,
        weight_tying=tie_embeddings,
        mask_token_id=tokenizer.mask_token_id,
        eos_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        prompt_isolated=True,
    )


def fresh_model(config: LladaConfig, *, seed: int, device: torch.device) -> LladaModel:
    """A randomly initialised model in float32. Blocks begin as the identity: what they add to the stream is zero."""
    model = LladaModel(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        if ".blocks." in name and name.endswith(("attn_out.weight", "ff_out.weight")):
            nn.init.zeros_(parameter)
        elif ".blocks." in name:
            nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter.shape[1]), generator=generator)
        else:
            nn.init.normal_(parameter, std=0.02, generator=generator)
    return model.to(device)


def trained_parameters(model: LladaModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What is trained: the 2-D matrices of the blocks, and everything else (with LoRA, the factors only)."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        plain_matrix = ".blocks." in name and parameter.dim() == 2 and name.endswith(".weight")
        (matrices if plain_matrix else others).append(parameter)
    return matrices, others
