"""The LLaDA decoder in plain PyTorch: Llama-style blocks without a causal mask.

The trunk does not know how attention is laid out. Training, the engine and the reference decoder each pass an
`attend` function for the layout at hand (packed prompts, canvases over a shared prompt, …), and keep keys and values as
they like. Module names spell the tensor names of the published checkpoints, so that state dicts load as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from inference.diffusion.config import LladaConfig

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""`(layer, q [..., n_heads, head_dim], k and v [..., n_kv_heads, head_dim]) -> [..., n_heads, head_dim]`.

q and k come rotated."""


class Linear(nn.Linear):
    """A bias-free projection that computes in the dtype of its input, whatever the dtype of the stored weight."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """Root-mean-square normalisation, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`[..., size]` to `[..., size]`, same dtype."""
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return normed.to(x.dtype) * self.weight.to(x.dtype)


@dataclass(frozen=True, slots=True)
class NarrowWeights:
    """A block's projections in bfloat16; those that share an input lie below each other."""

    qkv: Tensor
    attn_out: Tensor
    gate_up: Tensor
    ff_out: Tensor


class Block(nn.Module):
    """One transformer block, split at attention: `project` gives q, k, v; `merge` takes the attended values."""

    def __init__(self, config: LladaConfig) -> None:
        super().__init__()
        d_model, d_kv = config.d_model, config.n_kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.attn_norm = RMSNorm(d_model, config.rms_norm_eps)
        self.ff_norm = RMSNorm(d_model, config.rms_norm_eps)
        self.q_proj = Linear(d_model, d_model, bias=False)
        self.k_proj = Linear(d_model, d_kv, bias=False)
        self.v_proj = Linear(d_model, d_kv, bias=False)
        self.attn_out = Linear(d_model, d_model, bias=False)
        self.ff_proj = Linear(d_model, config.mlp_hidden_size, bias=False)
        self.up_proj = Linear(d_model, config.mlp_hidden_size, bias=False)
        self.ff_out = Linear(config.mlp_hidden_size, d_model, bias=False)
        self.narrow: NarrowWeights | None = None
        self.residual_dropout = 0.0
        """Share of what each half adds that training leaves out, element by element."""

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[..., d_model]` to rotated q, rotated k, and v, each `[..., heads, head_dim]`."""
        q, k, v = self._qkv(self.attn_norm(x))
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def merge(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add attention output `[..., n_heads, head_dim]` and the feed-forward layer to `x [..., d_model]`."""
        attended = attended.flatten(-2)
        if self.narrow is None:
            x = x + self._dropped(self.attn_out(attended))
        else:
            x = x + F.linear(attended.bfloat16(), self.narrow.attn_out)
        return x + self._dropped(self._feed_forward(self.ff_norm(x)))

    def narrow_projections(self) -> None:
        """See LladaModel."""
        q, k, v = self.q_proj.weight, self.k_proj.weight, self.v_proj.weight
        self.narrow = NarrowWeights(
            qkv=torch.cat([q, k, v]).detach().bfloat16(),
            attn_out=self.attn_out.weight.detach().bfloat16(),
            gate_up=torch.cat([self.ff_proj.weight, self.up_proj.weight]).detach().bfloat16(),
            ff_out=self.ff_out.weight.detach().bfloat16(),
        )

    def _dropped(self, update: Tensor) -> Tensor:
        if self.training and self.residual_dropout:
            return F.dropout(update, self.residual_dropout)
        return update

    def _qkv(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each `[..., heads, head_dim]`, before rotation."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        if self.narrow is None:
            q, k, v = (project(normed) for project in projections)
        else:
            joined = F.linear(normed.bfloat16(), self.narrow.qkv).to(normed.dtype)
            q, k, v = joined.split([project.out_features for project in projections], dim=-1)
        return (
            q.unflatten(-1, (-1, self.head_dim)),
            k.unflatten(-1, (-1, self.head_dim)),
            v.unflatten(-1, (-1, self.head_dim)),
        )

    def _feed_forward(self, normed: Tensor) -> Tensor:
        if self.narrow is None:
            return cast(Tensor, self.ff_out(F.silu(self.ff_proj(normed)) * self.up_proj(normed)))
        gate, up = F.linear(normed.bfloat16(), self.narrow.gate_up).chunk(2, dim=-1)
        return F.linear(F.silu(gate).mul_(up), self.narrow.ff_out)


@dataclass(frozen=True, slots=True)
class KVCache:
    """Rotated keys and values of packed tokens, `[n_layers, num_tokens, n_kv_heads, head_dim]` each."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class CanvasSegment:
    """One canvas in a canvas step: its number of open positions, and where its prompt and itself lie in the caches."""

    num_open: int
    prompt_start: int
    prompt_end: int
    canvas_start: int
    canvas_end: int


class LladaModel(nn.Module):
    """A LLaDA-family decoder. `model.transformer.…` are the published parameter names."""

    def __init__(self, config: LladaConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute_blocks = False
        """Keep only block inputs for the backward pass, and compute the rest again: for training large models."""
        parts: dict[str, nn.Module] = {
            "wte": nn.Embedding(config.embedding_size, config.d_model),
            "blocks": nn.ModuleList(Block(config) for _ in range(config.n_layers)),
            "ln_f": RMSNorm(config.d_model, config.rms_norm_eps),
        }
        if not config.weight_tying:
            parts["ff_out"] = Linear(config.d_model, config.embedding_size, bias=False)
        self.model = nn.ModuleDict({"transformer": nn.ModuleDict(parts)})

    def narrow_projections(self) -> None:
        """Multiply in bfloat16 inside the blocks, with everything between in the dtype of the weights.

        For CPUs that have units for it: there it takes half the time, and rounds a row alike in every batch.
        """
        for block in self.blocks:
            block.narrow_projections()

    @property
    def blocks(self) -> Sequence[Block]:
        """The transformer blocks, first to last."""
        return cast(Sequence[Block], self._part("blocks"))

    @property
    def head_weight(self) -> Tensor:
        """The LM head, `[embedding_size, d_model]`; the embedding itself when the checkpoint ties them."""
        if self.config.weight_tying:
            return self.embedding
        return cast(Tensor, self._part("ff_out").weight)

    @property
    def embedding(self) -> Tensor:
        """Token embeddings, `[embedding_size, d_model]`."""
        return cast(Tensor, self._part("wte").weight)

    @property
    def final_norm(self) -> RMSNorm:
        """The normalisation in front of the head."""
        return cast(RMSNorm, self._part("ln_f"))

    def trunk(
        self,
        token_ids: Tensor,
        positions: Tensor,
        attend: Attend,
        *,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Final hidden states of tokens in any layout.

        Args:
            token_ids: integer `[...]`.
            positions: integer `[...]`, the rotary position of each token.
            attend: attention for this layout.
            dtype: what to compute in; the dtype of the weights if not given.

        Returns:
            `[..., d_model]`, normalised, ready for `logits`.
        """
        x, cos, sin = self._enter(token_ids, positions, dtype)

        def run_block(layer: int, x: Tensor) -> Tensor:
            block = self.blocks[layer]
            q, k, v = block.project(x, cos, sin)
            return block.merge(x, attend(layer, q, k, v))

        for layer in range(self.config.n_layers):
            if self.recompute_blocks and torch.is_grad_enabled():
                x = checkpoint(run_block, layer, x, use_reentrant=False)
            else:
                x = run_block(layer, x)
        return cast(Tensor, self.final_norm(x))

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states `[..., d_model]` to logits `[..., embedding_size]`, same dtype."""
        return F.linear(hidden, self.head_weight.to(hidden.dtype))

    def prefill(
        self,
        token_ids: Tensor,
        positions: Tensor,
        rows: Tensor,
        lengths: Sequence[int],
        cache: KVCache,
    ) -> None:
        """Encode packed prompts, each of which sees itself only, into a cache.

        The last block stops at its keys and values: nothing else of it is needed.

        Args:
            token_ids: integer `[num_tokens]`, the prompts one after the other.
            positions: integer `[num_tokens]`.
            rows: integer `[num_tokens]`, the row of each token in `cache`.
            lengths: tokens of each prompt; they sum to `num_tokens`.
            cache: where the rotated keys and values of every layer go.
        """
        x, cos, sin = self._enter(token_ids, positions, None)
        for layer, block in enumerate(self.blocks):
            q, k, v = block.project(x, cos, sin)
            cache.keys[layer, rows] = k
            cache.values[layer, rows] = v
            if layer + 1 < self.config.n_layers:
                pieces = zip(
                    q.split(list(lengths)),
                    k.split(list(lengths)),
                    v.split(list(lengths)),
                    strict=True,
                )
                x = block.merge(x, torch.cat([attend_all(*piece) for piece in pieces]))

    def canvas_step(
        self,
        token_ids: Tensor,
        positions: Tensor,
        rows: Tensor,
        segments: Sequence[CanvasSegment],
        prompts: KVCache,
        canvases: KVCache,
        is_wanted: Tensor,
    ) -> Tensor:
        """Forward over the open positions of many canvases, each over its prompt and its own canvas.

        Args:
            token_ids: integer `[num_open]`, canvas after canvas in the order of `segments`.
            positions: integer `[num_open]`.
            rows: integer `[num_open]`, the row of each open position in `canvases`.
            segments: one per canvas.
            prompts: keys and values of the prompts; read.
            canvases: keys and values of whole canvases; the rows of the open positions are overwritten.
            is_wanted: bool `[num_open]`, positions whose hidden states are; others stop at their last keys and values.

        Returns:
            Final hidden states `[num_wanted, d_model]`.
        """
        counts = [segment.num_open for segment in segments]
        x, cos, sin = self._enter(token_ids, positions, None)
        for layer, block in enumerate(self.blocks):
            q, k, v = block.project(x, cos, sin)
            canvases.keys[layer, rows] = k
            canvases.values[layer, rows] = v
            if layer + 1 == self.config.n_layers:
                counts = [int(part.sum()) for part in is_wanted.split(counts)]
                x, q = x[is_wanted], q[is_wanted]
            out = []
            for segment, q_part in zip(segments, q.split(counts), strict=True):
                prompt = slice(segment.prompt_start, segment.prompt_end)
                canvas = slice(segment.canvas_start, segment.canvas_end)
                k_part = torch.cat([prompts.keys[layer, prompt], canvases.keys[layer, canvas]])
                v_part = torch.cat([prompts.values[layer, prompt], canvases.values[layer, canvas]])
                out.append(attend_all(q_part, k_part, v_part))
            x = block.merge(x, torch.cat(out))
        return cast(Tensor, self._part("ln_f")(x))

    def new_cache(self, num_tokens: int) -> KVCache:
        """A cache for `num_tokens` tokens, in the dtype and on the device of the weights; nothing is in it yet."""
        weight = self.head_weight
        shape = (self.config.n_layers, num_tokens, self.config.n_kv_heads, self.config.head_dim)
        return KVCache(weight.new_empty(shape), weight.new_empty(shape))

    def _part(self, name: str) -> nn.Module:
        return cast(nn.ModuleDict, self.model["transformer"])[name]

    def _enter(
        self, token_ids: Tensor, positions: Tensor, dtype: torch.dtype | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = F.embedding(token_ids, self.embedding).to(dtype or self.embedding.dtype)
        cos, sin = rope_tables(positions, self.config.head_dim, self.config.rope_theta)
        return x, cos, sin


def rope_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of integer `positions [...]` in float32, `[..., 1, head_dim]`, the two halves alike."""
    exponents = (
        torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    )
    angles = positions.float().unsqueeze(-1) * theta**-exponents
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(-2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of `x [..., heads, head_dim]`, pairing dimension i with i + head_dim / 2, in float32."""
    wide = x.float()
    half = wide.shape[-1] // 2
    out = wide * cos
    out[..., :half].addcmul_(wide[..., half:], sin[..., half:], value=-1)
    out[..., half:].addcmul_(wide[..., :half], sin[..., :half])
    return out.to(x.dtype)


def attend_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every query over every key: `q [num_q, n_heads, head_dim]`, `k`, `v [num_k, n_kv_heads, head_dim]`."""
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out[0].transpose(0, 1)
