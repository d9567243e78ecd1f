"""The model of the autoregressive baseline: the shape of Llama-3-8B with random weights, and its forward pass.

Projections that share an input are one product, residuals are added by the products themselves, and tokens of several
sequences are packed without padding. On a CPU the same code runs on the kernels' plain twins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.diffusion.kernels import attention, gate, naive, rope_store
from inference.diffusion.kernels.attention import AttentionConfig
from inference.diffusion.kernels.naive import OpenRows
from inference.diffusion.model import rope_tables

MANY_SEQUENCES = 16  # from here on whole sequences fill the GPU


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama-style decoder."""

    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int = 8
    mlp: int = 14_336
    vocab: int = 128_256
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of a block; `qkv` and `gate_up` hold several projections one below the other."""

    attention_norm: Tensor
    qkv: Tensor
    attention_out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    mlp_out: Tensor


@dataclass(frozen=True, slots=True)
class Weights:
    """Of a whole decoder."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    final_norm: Tensor
    head: Tensor


def random_weights(shape: Shape, *, device: torch.device, dtype: torch.dtype, seed: int) -> Weights:
    """Weights without meaning, at the scale of trained ones."""
    generator = torch.Generator(device).manual_seed(seed)

    def matrix(rows: int, columns: int) -> Tensor:
        weight = torch.empty(rows, columns, device=device, dtype=dtype)
        return weight.normal_(0, columns**-0.5, generator=generator)

    def ones() -> Tensor:
        return torch.ones(shape.d_model, device=device, dtype=dtype)

    width, kv_width = shape.d_model, shape.n_kv_heads * shape.head_dim
    layers = tuple(
        Layer(
            attention_norm=ones(),
            qkv=matrix(width + 2 * kv_width, width),
            attention_out=matrix(width, width),
            mlp_norm=ones(),
            gate_up=matrix(2 * shape.mlp, width),
            mlp_out=matrix(width, shape.mlp),
        )
        for _ in range(shape.n_layers)
    )
    return Weights(matrix(shape.vocab, width), layers, ones(), matrix(shape.vocab, width))


@dataclass(frozen=True, slots=True)
class Packed:
    """Tokens of several sequences, one behind the other; integer tensors on the device, int32 where not said.

    Attributes:
        positions: `[num_tokens]` int64, of each token in its sequence.
        cache_rows: `[num_tokens]` int64, where its key and value go.
        query_offsets: `[num_sequences + 1]`, first token of each sequence, and the end of the last one.
        key_offsets: `[num_sequences + 1]`, first cache row of each sequence, and the end of the last one.
        key_lengths: `[num_sequences]`, cached tokens of each sequence, its new ones included.
        max_queries: bound on a sequence's new tokens.
        max_keys: bound on its cached tokens.
    """

    positions: Tensor
    cache_rows: Tensor
    query_offsets: Tensor
    key_offsets: Tensor
    key_lengths: Tensor
    max_queries: int
    max_keys: int


Attention = Callable[[Tensor, Tensor, Tensor, Packed], Tensor]
"""`(q [num_tokens, n_heads, head_dim], keys, values [cache_rows, n_kv_heads, head_dim], packed) -> like q`.

Every new token attends to its sequence up to itself; the keys and values are those of one layer's cache."""


class LlamaModel:
    """The forward pass over packed tokens; keys and values are in a cache that the caller holds."""

    def __init__(
        self, shape: Shape, weights: Weights, *, max_positions: int, attention: Attention
    ) -> None:
        self._shape, self._weights, self._attention = shape, weights, attention
        positions = torch.arange(max_positions, device=weights.head.device)
        cos, sin = rope_tables(positions, shape.head_dim, shape.rope_theta)
        half = shape.head_dim // 2
        self._cos = cos[:, 0, :half].contiguous()
        self._sin = sin[:, 0, :half].contiguous()

    def trunk(self, token_ids: Tensor, packed: Packed, keys: Tensor, values: Tensor) -> Tensor:
        """Final hidden states, `[num_tokens, d_model]`; keys and values of the tokens enter the cache.

        Args:
            token_ids: `[num_tokens]` int64.
            packed: whose tokens they are, and where their keys and values go.
            keys: cache of all layers, `[n_layers, cache_rows, n_kv_heads, head_dim]`; written.
            values: likewise.
        """
        shape = self._shape
        x = F.embedding(token_ids, self._weights.embedding)
        widths = [shape.n_heads, shape.n_kv_heads, shape.n_kv_heads]
        kernels = rope_store if x.device.type == "cuda" else naive
        for number, layer in enumerate(self._weights.layers):
            cache = keys[number], values[number]
            projected = F.linear(self._norm(x, layer.attention_norm), layer.qkv)
            q, k, v = projected.unflatten(1, (-1, shape.head_dim)).split(widths, dim=1)
            q = kernels.rotate_and_store(
                q, k, v, packed.positions, packed.cache_rows, self._cos, self._sin, *cache
            )
            attended = self._attention(q, *cache, packed)
            x.addmm_(attended.flatten(1), layer.attention_out.T)
            gate_up = F.linear(self._norm(x, layer.mlp_norm), layer.gate_up)
            x.addmm_(_gated(gate_up), layer.mlp_out.T)
        return self._norm(x, self._weights.final_norm)

    def next_tokens(self, hidden: Tensor) -> Tensor:
        """The likeliest token after each of the hidden states, `[num_rows]` int64."""
        return F.linear(hidden, self._weights.head).argmax(1)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[1],), weight, self._shape.norm_eps)


def flash_attention(q: Tensor, keys: Tensor, values: Tensor, packed: Packed) -> Tensor:
    """Torch's FlashAttention; it splits the keys over programs where each sequence has a single new token."""
    return torch.ops.aten._flash_attention_forward(
        q,
        keys,
        values,
        packed.query_offsets,
        packed.key_offsets,
        packed.max_queries,
        packed.max_keys,
        0.0,
        packed.max_queries > 1,  # a single token is the last one and sees all
        False,
        seqused_k=packed.key_lengths,
    )[0]


def ragged_attention(q: Tensor, keys: Tensor, values: Tensor, packed: Packed) -> Tensor:
    """The engine's attention for the decoding step, torch's for prompts: each sequence is a call with one open row."""
    if packed.max_queries > 1:
        return flash_attention(q, keys, values, packed)
    starts = packed.key_offsets[:-1]
    none = starts[:0]
    rows = OpenRows(
        call_offsets=packed.query_offsets,
        prompt_start=starts,
        prompt_end=starts + packed.key_lengths,
        row_canvas=none,
        canvas_start=none,
        canvas_end=none,
    )
    return attention.ragged_attention(
        q,
        keys,
        values,
        rows,
        max_rows_per_call=1,
        max_prompt=packed.max_keys,
        split_keys=256 if len(q) < MANY_SEQUENCES else 1024,
        config=AttentionConfig(queries=16, keys=64, num_warps=4, num_stages=3),
    )


def plain_attention(q: Tensor, keys: Tensor, values: Tensor, packed: Packed) -> Tensor:
    """Sequence by sequence, on any device."""
    pieces = []
    for piece, start, length in zip(
        q.tensor_split(packed.query_offsets[1:-1].long().cpu()),
        packed.key_offsets.tolist(),
        packed.key_lengths.tolist(),
        strict=False,  # there is one offset more
    ):
        k, v = (cache[start : start + length].transpose(0, 1) for cache in (keys, values))
        seen = torch.ones(len(piece), length, dtype=torch.bool, device=q.device)
        out = F.scaled_dot_product_attention(
            piece.transpose(0, 1),
            k,
            v,
            attn_mask=seen.tril(length - len(piece)),
            enable_gqa=True,
        )
        pieces.append(out.transpose(0, 1))
    return torch.cat(pieces)


def plain_logits(shape: Shape, weights: Weights, token_ids: Sequence[int]) -> Tensor:
    """Logits of one sequence `[length, vocab]` from a full forward without a cache: the truth to compare with."""
    device = weights.head.device
    positions = torch.arange(len(token_ids), device=device)
    cos, sin = rope_tables(positions, shape.head_dim, shape.rope_theta)

    def rotate(x: Tensor) -> Tensor:
        first, second = x.float().chunk(2, dim=-1)
        return (x.float() * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + shape.norm_eps) * weight

    x = weights.embedding[torch.tensor(token_ids, device=device)]
    kv_width = shape.n_kv_heads * shape.head_dim
    for layer in weights.layers:
        q, k, v = (
            (norm(x, layer.attention_norm) @ part.T).unflatten(1, (-1, shape.head_dim))
            for part in layer.qkv.split([shape.d_model, kv_width, kv_width])
        )
        group = shape.n_heads // shape.n_kv_heads
        k, v = rotate(k).repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        score = torch.einsum("qhd,khd->hqk", rotate(q), k) * shape.head_dim**-0.5
        seen = torch.ones(score.shape[1:], dtype=torch.bool, device=device).tril()
        weight = score.masked_fill(~seen, -torch.inf).softmax(-1)
        x = x + torch.einsum("hqk,khd->qhd", weight, v).flatten(1) @ layer.attention_out.T
        gate, up = (norm(x, layer.mlp_norm) @ part.T for part in layer.gate_up.chunk(2))
        x = x + (F.silu(gate) * up) @ layer.mlp_out.T
    return norm(x, weights.final_norm) @ weights.head.T


def _gated(gate_up: Tensor) -> Tensor:
    """The feed-forward layers' activation, by the kernel where there is a GPU."""
    return gate.gate(gate_up) if gate_up.is_cuda else naive.gate(gate_up)
