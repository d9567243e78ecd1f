"""The trunk over packed rows in as few launches as there are: projections fused, residuals added by the products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.diffusion.kernels.attention import AttentionConfig, ragged_attention
from inference.diffusion.kernels.gate import gate
from inference.diffusion.kernels.linear import linear
from inference.diffusion.kernels.naive import OpenRows
from inference.diffusion.kernels.rope_store import rotate_and_store
from inference.diffusion.model import Block, KVCache, LladaModel, rope_tables

FEW_QUERIES = 64  # of a call and key-value head, up to which a tile of 64 holds them all
FEW_PROGRAMS = 132  # fewer than that leave multiprocessors idle, so that prompts are split
SPLIT_KEYS = 512


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no call of a launch exceeds: its rows, and its prompt."""

    rows_per_call: int
    prompt: int


Project = Callable[[Tensor, Tensor], Tensor]
AddProjection = Callable[[Tensor, Tensor, Tensor], Tensor]


class PackedTrunk:
    """The blocks of a model, run over rows of many calls, with keys and values kept in one cache.

    The weights of the model are laid behind each other in place: its projections become views of the fused ones.
    """

    def __init__(self, model: LladaModel, num_cache_rows: int, *, deterministic: bool) -> None:
        self.cache: KVCache = model.new_cache(num_cache_rows)
        self._config = model.config
        self._embedding = model.embedding
        self._final_norm = model.final_norm.weight
        self._blocks = list(model.blocks)
        self._qkv = [_fuse(block.q_proj, block.k_proj, block.v_proj) for block in self._blocks]
        self._gated = [_fuse(block.ff_proj, block.up_proj) for block in self._blocks]
        self._may_split = not deterministic  # splits are summed in another order
        self._linear: Project = linear if deterministic else F.linear
        self._add_linear: AddProjection = _add_linear if deterministic else _add_library_linear
        head_dim = model.config.head_dim
        positions = torch.arange(model.config.max_sequence_length, device=model.head_weight.device)
        cos, sin = rope_tables(positions, head_dim, model.config.rope_theta)
        self._cos = cos[:, 0, : head_dim // 2].contiguous()
        self._sin = sin[:, 0, : head_dim // 2].contiguous()

    def encode(
        self, tokens: Tensor, positions: Tensor, places: Tensor, rows: OpenRows, bounds: Bounds
    ) -> None:
        """Write the keys and values of prompts into the cache. The last block stops there: nobody needs the rest of it.

        Args:
            tokens: int32 `[num_rows]`.
            positions: int32 `[num_rows]`.
            places: int32 `[num_rows]`, cache row of each.
            rows: the prompts, each as a call that sees itself.
            bounds: of the launch.
        """
        self._run(tokens, positions, places, rows, bounds, is_prompt=True)

    def __call__(
        self, tokens: Tensor, positions: Tensor, places: Tensor, rows: OpenRows, bounds: Bounds
    ) -> Tensor:
        """Hidden states `[num_rows, d_model]` of open positions, not yet normalised; arguments as for `encode`.

        Their keys and values are written, but for rows with place -1.
        """
        return self._run(tokens, positions, places, rows, bounds, is_prompt=False)

    def normalise(self, hidden: Tensor) -> Tensor:
        """What the head takes."""
        return self._norm(hidden, self._final_norm)

    def _run(
        self,
        tokens: Tensor,
        positions: Tensor,
        places: Tensor,
        rows: OpenRows,
        bounds: Bounds,
        *,
        is_prompt: bool,
    ) -> Tensor:
        x = F.embedding(tokens, self._embedding)
        config, split_keys = self._attention_for(bounds, len(rows.prompt_start))
        for layer, block in enumerate(self._blocks):
            keys, values = self.cache.keys[layer], self.cache.values[layer]
            projected = self._linear(self._norm(x, block.attn_norm.weight), self._qkv[layer])
            q = rotate_and_store(
                *self._heads(projected), positions, places, self._cos, self._sin, keys, values
            )
            if is_prompt and layer + 1 == len(self._blocks):
                break
            attended = ragged_attention(
                q,
                keys,
                values,
                rows,
                max_rows_per_call=bounds.rows_per_call,
                max_prompt=bounds.prompt,
                split_keys=split_keys,
                config=config,
            )
            x = self._merge(x, attended.flatten(1), block, self._gated[layer])
        return x

    def _attention_for(self, bounds: Bounds, num_calls: int) -> tuple[AttentionConfig, int | None]:
        """Tiles and splits: large tiles read the cache less often, small ones and splits keep the device busy."""
        n_heads, n_kv_heads = self._config.n_heads, self._config.n_kv_heads
        queries = bounds.rows_per_call * (n_heads // n_kv_heads)
        tile = 64 if queries <= FEW_QUERIES else 128
        num_programs = num_calls * n_kv_heads * -(-queries // tile)
        splits = self._may_split and num_programs < FEW_PROGRAMS
        config = AttentionConfig(queries=tile, num_warps=tile // 16)
        return config, SPLIT_KEYS if splits else None

    def _merge(self, x: Tensor, attended: Tensor, block: Block, gated: Tensor) -> Tensor:
        x = self._add_linear(x, attended, block.attn_out.weight)
        hidden = gate(self._linear(self._norm(x, block.ff_norm.weight), gated))
        return self._add_linear(x, hidden, block.ff_out.weight)

    def _heads(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config = self._config
        heads = projected.unflatten(1, (-1, config.head_dim))
        return heads.split([config.n_heads, config.n_kv_heads, config.n_kv_heads], dim=1)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self._config.rms_norm_eps)


def _fuse(*projections: torch.nn.Linear) -> Tensor:
    """One weight for several projections of the same input; theirs become views of it."""
    fused = torch.cat([projection.weight.detach() for projection in projections])
    pieces = fused.split([projection.out_features for projection in projections])
    for projection, piece in zip(projections, pieces, strict=True):
        projection.weight.data = piece
    return fused


def _add_linear(x: Tensor, update: Tensor, weight: Tensor) -> Tensor:
    return linear(update, weight, bias_rows=x)


def _add_library_linear(x: Tensor, update: Tensor, weight: Tensor) -> Tensor:
    return x.addmm_(update, weight.T)
