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
from inference.diffusion.kernels.norm import rms_norm
from inference.diffusion.kernels.rope_store import rotate_and_store
from inference.diffusion.memory import KVCache
from inference.diffusion.model import Block, LladaModel, rope_tables

# The fastest on an H100, see docs/benchmarks.md: several prompts at 435 TFLOP/s, two programs to a multiprocessor, and
# one at 392. Open positions of one call go to the small tile if it holds them all. All have as many keys, so that a
# row's bits do not depend on the tile.
PROMPTS = AttentionConfig(queries=128, keys=64, num_warps=8, num_stages=2, max_registers=128)
LONE_PROMPT = AttentionConfig(queries=128, keys=64, num_warps=8, num_stages=4)
MANY_OPEN = AttentionConfig(queries=128, keys=64, num_warps=8, num_stages=3)
FEW_OPEN = AttentionConfig(queries=64, keys=64, num_warps=4, num_stages=3)
FEW_PROGRAMS = 132  # fewer than that leave multiprocessors idle, so that prompts are split
SPLIT_KEYS = 512  # a lone call's attention: 22 us with 90 open positions, 28 at 256 keys


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
        weight = model.head_weight
        self.cache = KVCache.empty(model.config, num_cache_rows, weight.dtype, weight.device)
        self._config = model.config
        self._group = model.config.n_heads // model.config.n_kv_heads
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
        config = self._tiles_for(rows, bounds, is_prompt=is_prompt)
        split_keys = self._split_for(config, bounds, len(rows.prompt_start))
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

    def _tiles_for(self, rows: OpenRows, bounds: Bounds, *, is_prompt: bool) -> AttentionConfig:
        """Large tiles read the cache less often, small ones waste less."""
        if is_prompt:
            return LONE_PROMPT if len(rows.prompt_start) == 1 else PROMPTS
        return FEW_OPEN if bounds.rows_per_call * self._group <= FEW_OPEN.queries else MANY_OPEN

    def _split_for(self, config: AttentionConfig, bounds: Bounds, num_calls: int) -> int | None:
        """Whether the prompt goes to several programs, to keep the device busy."""
        num_tiles = -(-bounds.rows_per_call * self._group // config.queries)
        num_programs = num_calls * self._config.n_kv_heads * num_tiles
        return SPLIT_KEYS if self._may_split and num_programs < FEW_PROGRAMS else None

    def _merge(self, x: Tensor, attended: Tensor, block: Block, gated: Tensor) -> Tensor:
        x = self._add_linear(x, attended, block.attn_out.weight)
        hidden = gate(self._linear(self._norm(x, block.ff_norm.weight), gated))
        return self._add_linear(x, hidden, block.ff_out.weight)

    def _heads(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config = self._config
        heads = projected.unflatten(1, (-1, config.head_dim))
        return heads.split([config.n_heads, config.n_kv_heads, config.n_kv_heads], dim=1)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, weight, self._config.rms_norm_eps)


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
