"""The baselines give right answers: a comparison with something wrong would mean nothing."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.baselines.autoregressive import AutoregressiveDecoder
from benchmarks.baselines.llama import (
    Packed,
    Shape,
    plain_attention,
    plain_logits,
    ragged_attention,
    random_weights,
)
from benchmarks.baselines.published import DualCacheDecoder
from inference.diffusion.config import LladaConfig
from inference.diffusion.model import LladaModel, attend_all

SHAPE = Shape(d_model=48, n_layers=3, n_heads=6, n_kv_heads=2, mlp=72, vocab=97)
MASK = 60


def llada(n_layers: int) -> LladaModel:
    config = LladaConfig.from_dict(
        {
            "d_model": 32,
            "n_layers": n_layers,
            "n_heads": 4,
            "mlp_hidden_size": 52,
            "vocab_size": 64,
            "max_sequence_length": 128,
            "weight_tying": False,
            "mask_token_id": MASK,
            "eos_token_id": 59,
        }
    )
    generator = torch.Generator().manual_seed(7)
    model = LladaModel(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = noise / math.sqrt(parameter.shape[-1])
    return model.eval()


@torch.inference_mode()
def uncached(model: LladaModel, prompt: list[int], num_tokens: int, count: int, block: int):
    """The same schedule with a full forward for every commit."""
    tokens = torch.tensor([*prompt, *[MASK] * num_tokens])
    for start in range(len(prompt), len(tokens), block):
        span = slice(start, start + block)
        while (masked := tokens[span] == MASK).any():
            hidden = model.trunk(
                tokens, torch.arange(len(tokens)), lambda _, q, k, v: attend_all(q, k, v)
            )
            confidence, token = model.logits(hidden)[span].softmax(-1).max(-1)
            order = confidence.masked_fill(~masked, -1).argsort(descending=True)
            chosen = order[: min(count, int(masked.sum()))]
            tokens[span][chosen] = token[chosen]
    return tokens[len(prompt) :].tolist()


# Keys and values of the first layer depend on their own token alone, so there the cache is exact; in deeper models it
# is where a block is one forward.
@pytest.mark.parametrize(("n_layers", "count"), [(1, 1), (1, 3), (3, 8)])
def test_the_dual_cache_decodes_as_without_a_cache_where_it_is_exact(n_layers, count):
    model = llada(n_layers)
    prompt = [3, 17, 17, 42, 5]
    decoder = DualCacheDecoder(model, tokens_per_forward=count, block_length=8)
    found = decoder.decode(prompt, 20)
    assert found == uncached(model, prompt, 20, count, 8)
    assert decoder.num_forwards == 2 * math.ceil(8 / count) + math.ceil(4 / count)


def test_every_position_is_committed_under_a_cache_that_goes_stale():
    found = DualCacheDecoder(llada(3), tokens_per_forward=3, block_length=8).decode([3, 9], 21)
    assert len(found) == 21
    assert MASK not in found


def test_the_autoregressive_decoder_is_greedy_decoding_with_full_forwards(monkeypatch):
    monkeypatch.setattr("benchmarks.baselines.autoregressive.PREFILL_TOKENS", 12)
    weights = random_weights(SHAPE, device=torch.device("cpu"), dtype=torch.float32, seed=1)
    generator = torch.Generator().manual_seed(2)
    prompts = [
        torch.randint(SHAPE.vocab, (n,), generator=generator).tolist() for n in (7, 1, 4, 11)
    ]
    decoder = AutoregressiveDecoder(
        SHAPE, weights, batch_size=4, max_prompt=11, max_new=6, attention=plain_attention
    )
    for _ in range(2):  # a batch leaves nothing behind for the next one
        for prompt, found in zip(prompts, decoder.generate(prompts), strict=True):
            tokens = list(prompt)
            for _ in range(6):
                tokens.append(int(plain_logits(SHAPE, weights, tokens)[-1].argmax()))
            assert found == tokens[len(prompt) :]


def test_the_engines_attention_serves_a_decoding_step():
    generator = torch.Generator().manual_seed(3)
    capacity, lengths = 80, torch.tensor([80, 1, 37], dtype=torch.int32)
    q = torch.randn(3, 8, 16, generator=generator)
    keys, values = (torch.randn(3 * capacity, 2, 16, generator=generator) for _ in range(2))
    packed = Packed(
        positions=lengths.long() - 1,
        cache_rows=torch.arange(3) * capacity + lengths - 1,
        query_offsets=torch.arange(4, dtype=torch.int32),
        key_offsets=torch.arange(4, dtype=torch.int32) * capacity,
        key_lengths=lengths,
        max_queries=1,
        max_keys=capacity,
    )
    torch.testing.assert_close(
        ragged_attention(q, keys, values, packed), plain_attention(q, keys, values, packed)
    )
