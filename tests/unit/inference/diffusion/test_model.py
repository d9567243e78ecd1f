"""The decoder against a plain float32 transcription of the published block."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inference.diffusion.config import LladaConfig
from inference.diffusion.model import attend_all
from tests.models import DECODER_SHAPES, random_decoder


def published_logits(state: dict[str, Tensor], config: LladaConfig, ids: list[int]) -> Tensor:
    """Logits of one sequence, head by head and position by position, from the published description alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + config.rms_norm_eps) * state[name]

    def rope(vector: Tensor, position: int) -> Tensor:
        half = len(vector) // 2
        out = torch.empty_like(vector)
        for i in range(half):
            angle = position / config.rope_theta ** (2 * i / len(vector))
            cos, sin = math.cos(angle), math.sin(angle)
            out[i] = vector[i] * cos - vector[i + half] * sin
            out[i + half] = vector[i + half] * cos + vector[i] * sin
        return out

    x = state["model.transformer.wte.weight"][ids]
    size, per_kv = config.head_dim, config.n_heads // config.n_kv_heads
    for layer in range(config.n_layers):
        name = f"model.transformer.blocks.{layer}."
        normed = norm(x, name + "attn_norm.weight")
        q, k, v = (normed @ state[f"{name}{part}_proj.weight"].T for part in "qkv")
        heads = []
        for head in range(config.n_heads):
            kv = head // per_kv
            q_head = torch.stack(
                [rope(q[i, head * size : (head + 1) * size], i) for i in range(len(ids))]
            )
            k_head = torch.stack(
                [rope(k[i, kv * size : (kv + 1) * size], i) for i in range(len(ids))]
            )
            weights = torch.softmax(q_head @ k_head.T / math.sqrt(size), dim=-1)
            heads.append(weights @ v[:, kv * size : (kv + 1) * size])
        x = x + torch.cat(heads, dim=-1) @ state[name + "attn_out.weight"].T
        normed = norm(x, name + "ff_norm.weight")
        gate = normed @ state[name + "ff_proj.weight"].T
        gated = gate * torch.sigmoid(gate) * (normed @ state[name + "up_proj.weight"].T)
        x = x + gated @ state[name + "ff_out.weight"].T
    head_name = "wte" if config.weight_tying else "ff_out"
    return (
        norm(x, "model.transformer.ln_f.weight") @ state[f"model.transformer.{head_name}.weight"].T
    )


@pytest.mark.parametrize("shape", DECODER_SHAPES)
@torch.inference_mode()
def test_forward_is_the_published_architecture(shape: str):
    model = random_decoder(shape)
    ids = [3, 60, 17, 17, 42, 0, 59]
    tokens, positions = torch.tensor(ids), torch.arange(len(ids))
    hidden = model.trunk(tokens, positions, lambda _layer, q, k, v: attend_all(q, k, v))
    expected = published_logits(model.state_dict(), model.config, ids)
    torch.testing.assert_close(model.logits(hidden), expected, rtol=2e-4, atol=2e-5)


def test_tensor_names_are_those_of_the_published_checkpoint():
    names = set(random_decoder("mha_untied").state_dict())
    parts = [
        "attn_norm",
        "ff_norm",
        "q_proj",
        "k_proj",
        "v_proj",
        "attn_out",
        "ff_proj",
        "up_proj",
        "ff_out",
    ]
    blocks = {f"model.transformer.blocks.{i}.{part}.weight" for i in range(3) for part in parts}
    assert names == blocks | {
        f"model.transformer.{part}.weight" for part in ("wte", "ln_f", "ff_out")
    }
    assert "model.transformer.ff_out.weight" not in random_decoder("gqa_tied").state_dict()


def test_recomputed_blocks_give_the_same_gradients():
    model = random_decoder("gqa_tied").train()
    tokens, positions = torch.arange(9), torch.arange(9)

    def gradient() -> Tensor:
        model.zero_grad()
        hidden = model.trunk(tokens, positions, lambda _layer, q, k, v: attend_all(q, k, v))
        model.logits(hidden).square().mean().backward()
        assert model.blocks[0].q_proj.weight.grad is not None
        return model.blocks[0].q_proj.weight.grad.clone()

    kept = gradient()
    model.recompute_blocks = True
    torch.testing.assert_close(gradient(), kept)
