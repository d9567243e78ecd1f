"""The decoder against a plain float32 transcription of the published block, and its cached forms against itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inference.diffusion.config import LladaConfig
from inference.diffusion.model import CanvasSegment, KVCache, LladaModel, attend_all

SHAPES = {
    "mha_untied": {"n_heads": 4, "n_kv_heads": 4, "weight_tying": False},
    "gqa_tied": {"n_heads": 6, "n_kv_heads": 2, "weight_tying": True},
    "mqa_untied": {"n_heads": 3, "n_kv_heads": 1, "weight_tying": False},
}


def random_model(shape: str) -> LladaModel:
    n_heads = SHAPES[shape]["n_heads"]
    config = LladaConfig.from_dict(
        {
            "d_model": 8 * n_heads,
            "n_layers": 3,
            "mlp_hidden_size": 52,
            "vocab_size": 61,
            "embedding_size": 64,
            "max_sequence_length": 128,
            "rope_theta": 5e5,
            "mask_token_id": 60,
            "eos_token_id": 59,
            **SHAPES[shape],
        }
    )
    generator = torch.Generator().manual_seed(5)
    model = LladaModel(config)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter.shape[-1])
        parameter.data = noise if parameter.dim() == 2 else 1.0 + 0.3 * noise
    return model.eval()


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


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_forward_is_the_published_architecture(shape: str):
    model = random_model(shape)
    ids = [3, 60, 17, 17, 42, 0, 59]
    tokens, positions = torch.tensor(ids), torch.arange(len(ids))
    hidden = model.trunk(tokens, positions, lambda _layer, q, k, v: attend_all(q, k, v))
    expected = published_logits(model.state_dict(), model.config, ids)
    torch.testing.assert_close(model.logits(hidden), expected, rtol=2e-4, atol=2e-5)


def test_tensor_names_are_those_of_the_published_checkpoint():
    names = set(random_model("mha_untied").state_dict())
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
    assert "model.transformer.ff_out.weight" not in random_model("gqa_tied").state_dict()


def prefill(model: LladaModel, token_ids: Tensor, positions: Tensor, lengths: list[int]) -> KVCache:
    """Packed prompts, encoded into a cache of their own."""
    cache = model.new_cache(len(token_ids))
    model.prefill(token_ids, positions, torch.arange(len(token_ids)), lengths, cache)
    return cache


@pytest.mark.parametrize("shape", ["mha_untied", "gqa_tied"])
@torch.inference_mode()
def test_prefill_of_packed_prompts_equals_each_prompt_alone(shape: str):
    model = random_model(shape)
    lengths = [5, 1, 9]
    tokens = torch.randint(0, 60, (15,), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(length) for length in lengths])
    packed = prefill(model, tokens, positions, lengths)
    for part, alone_ids in enumerate(tokens.split(lengths)):
        rows = slice(sum(lengths[:part]), sum(lengths[: part + 1]))
        alone = prefill(model, alone_ids, torch.arange(len(alone_ids)), [len(alone_ids)])
        torch.testing.assert_close(packed.keys[:, rows], alone.keys)
        torch.testing.assert_close(packed.values[:, rows], alone.values)


def masked_forward(model: LladaModel, prompt: Tensor, canvas: Tensor) -> Tensor:
    """Canvas logits of one uncached forward in which the prompt does not see the canvas."""
    tokens = torch.cat([prompt, canvas])
    sees = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
    sees[: len(prompt), len(prompt) :] = False

    def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~sees, -torch.inf).softmax(-1)
        return torch.einsum("hqk,khd->qhd", weights, v)

    hidden = model.trunk(tokens, torch.arange(len(tokens)), attend)
    return model.logits(hidden)[len(prompt) :]


@pytest.mark.parametrize("shape", ["mha_untied", "gqa_tied"])
@torch.inference_mode()
def test_canvas_step_equals_an_uncached_forward(shape: str):
    """Two canvases share a prompt, one has its own; a second step opens few positions and reads the rest from cache."""
    model = random_model(shape)
    generator = torch.Generator().manual_seed(2)
    prompts = [torch.randint(0, 60, (n,), generator=generator) for n in (7, 4)]
    prompt_of, canvas_lengths = [0, 0, 1], [6, 3, 5]
    canvases = [torch.randint(0, 60, (n,), generator=generator) for n in canvas_lengths]
    prompt_kv = prefill(
        model, torch.cat(prompts), torch.cat([torch.arange(7), torch.arange(4)]), [7, 4]
    )
    cache = model.new_cache(sum(canvas_lengths))
    starts, prompt_ranges = [0, 6, 9], [(0, 7), (7, 11)]

    def step(open_rows: list[list[int]]) -> Tensor:
        segments, ids, positions, rows = [], [], [], []
        for i, opened in enumerate(open_rows):
            begin, end = prompt_ranges[prompt_of[i]]
            segments.append(
                CanvasSegment(len(opened), begin, end, starts[i], starts[i] + canvas_lengths[i])
            )
            ids += canvases[i][opened].tolist()
            positions += [end - begin + row for row in opened]
            rows += [starts[i] + row for row in opened]
        hidden = model.canvas_step(
            torch.tensor(ids),
            torch.tensor(positions),
            torch.tensor(rows),
            segments,
            prompt_kv,
            cache,
            torch.arange(len(ids)) % 3 != 1,
        )
        return model.logits(hidden)

    def expected(open_rows: list[list[int]]) -> Tensor:
        rows = [
            masked_forward(model, prompts[prompt_of[i]], canvases[i])[opened]
            for i, opened in enumerate(open_rows)
        ]
        return torch.cat(rows)[torch.arange(sum(map(len, open_rows))) % 3 != 1]

    everything = [list(range(length)) for length in canvas_lengths]
    torch.testing.assert_close(step(everything), expected(everything), rtol=1e-4, atol=1e-5)
    # The same positions again, given alone: what they see of the others comes from the cache of the step before.
    few = [[1, 4], [2], [0]]
    torch.testing.assert_close(step(few), expected(few), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_narrow_projections_round_and_nothing_more():
    model = random_model("gqa_tied")
    tokens = torch.tensor([3, 60, 17, 17, 42, 0, 59])

    def hidden() -> Tensor:
        return model.trunk(
            tokens, torch.arange(len(tokens)), lambda _layer, q, k, v: attend_all(q, k, v)
        )

    wide = hidden()
    model.narrow_projections()
    narrow = hidden()
    assert narrow.dtype == torch.float32
    assert 0 < (narrow - wide).norm() / wide.norm() < 0.02


def test_recomputed_blocks_give_the_same_gradients():
    model = random_model("gqa_tied").train()
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
