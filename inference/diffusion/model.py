"""The LLaDA decoder in plain PyTorch: Llama-style blocks without a causal mask.

The trunk does not know how attention is laid out. Training, the engine and the reference decoder each pass an
`attend` function for the layout at hand (packed prompts, canvases over a shared prompt, …), and keep keys and values as
they like. Module names spell the tensor names of the published checkpoints, so that state dicts load as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        self.residual_dropout = 0.0
        """Share of what each half adds that training leaves out, element by element."""

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[..., d_model]` to rotated q, rotated k, and v, each `[..., heads, head_dim]`."""
        normed = self.attn_norm(x)
        q, k, v = (self._heads(part(normed)) for part in (self.q_proj, self.k_proj, self.v_proj))
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def merge(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add attention output `[..., n_heads, head_dim]` and the feed-forward layer to `x [..., d_model]`."""
        x = x + self._dropped(self.attn_out(attended.flatten(-2)))
        return x + self._dropped(self._feed_forward(self.ff_norm(x)))

    def _dropped(self, update: Tensor) -> Tensor:
        if self.training and self.residual_dropout:
            return F.dropout(update, self.residual_dropout)
        return update

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, self.head_dim))

    def _feed_forward(self, normed: Tensor) -> Tensor:
        return cast(Tensor, self.ff_out(F.silu(self.ff_proj(normed)) * self.up_proj(normed)))


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
