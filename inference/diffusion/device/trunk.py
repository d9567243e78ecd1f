"""The trunk over packed rows in as few launches as there are: projections fused, residuals added by the products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.diffusion.kernels.attention import AttentionConfig, ragged_attention
from inference.diffusion.kernels.gate import gate
from inference.diffusion.kernels.linear import gated_linear, linear
from inference.diffusion.kernels.naive import OpenRows
from inference.diffusion.kernels.norm import rms_norm
from inference.diffusion.kernels.rope_store import rotate_and_store
from inference.diffusion.memory import KVCache
from inference.diffusion.model import Block, LladaModel, rope_tables

# The fastest on an H200, see docs/benchmarks.md: prompts at 478 TFLOP/s; open positions, of which most calls have fewer
# than 100, at three quarters of the bandwidth.
PROMPTS = AttentionConfig(queries=64, keys=64, num_warps=4, num_stages=3)
OPEN = AttentionConfig(queries=64, keys=32, num_warps=4, num_stages=3)
FEW_PROGRAMS = 132  # fewer than that leave multiprocessors idle, so that prompts are split
SPLIT_KEYS = (
    512  # a lone call's 90 open positions, tiles of 128 and 64: 24 us, 26 at 256 keys, 40 in one
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no call of a launch exceeds: its rows, and its prompt."""

    rows_per_call: int
    prompt: int


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows of calls behind each other.

    Attributes:
        tokens: int32 `[num_rows]`.
        positions: int32 `[num_rows]`.
        places: int32 `[num_rows]`, cache row of each; keys and values of rows with place -1 are not kept.
        calls: who sees what; a prompt is a call that sees itself.
        bounds: of the launch.
    """

    tokens: Tensor
    positions: Tensor
    places: Tensor
    calls: OpenRows
    bounds: Bounds

    def __len__(self) -> int:
        return len(self.tokens)


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
        self._gated_linear: Project = gated_linear if deterministic else _gated_library_linear
        head_dim = model.config.head_dim
        positions = torch.arange(model.config.max_sequence_length, device=model.head_weight.device)
        cos, sin = rope_tables(positions, head_dim, model.config.rope_theta)
        self._cos = cos[:, 0, : head_dim // 2].contiguous()
        self._sin = sin[:, 0, : head_dim // 2].contiguous()

    def __call__(
        self, open_rows: PackedRows, head_row: Tensor, prompts: PackedRows | None = None
    ) -> Tensor:
        """One forward over open positions, and over new prompts, if there are any, for their keys and values.

        Block by block these are written before anyone looks at them, so that the canvases of a new call need not wait
        for another forward. Prompts leave at the keys and values of the last block: nobody needs the rest of it.

        Args:
            open_rows: the open positions.
            head_row: int32 `[num_heads]`, those of `open_rows` whose hidden states are wanted.
            prompts: of the calls that are new.

        Returns:
            `[num_heads, d_model]`, not yet normalised.
        """
        parts = [open_rows] if prompts is None else [open_rows, prompts]
        tokens, positions, places = (
            torch.cat(of_parts) if prompts is not None else of_parts[0]
            for of_parts in zip(*((p.tokens, p.positions, p.places) for p in parts), strict=True)
        )
        x = F.embedding(tokens, self._embedding)
        for layer, block in enumerate(self._blocks):
            keys, values = self.cache.keys[layer], self.cache.values[layer]
            projected = self._linear(self._norm(x, block.attn_norm.weight), self._qkv[layer])
            q = rotate_and_store(
                *self._heads(projected), positions, places, self._cos, self._sin, keys, values
            )
            if layer + 1 < len(self._blocks):
                attended = self._attend(layer, q, parts)
            else:
                attended = self._attend(layer, q[: len(open_rows)], [open_rows])[head_row]
                x = x[head_row]
            x = self._merge(x, attended.flatten(1), block, self._gated[layer])
        return x

    def normalise(self, hidden: Tensor) -> Tensor:
        """What the head takes."""
        return self._norm(hidden, self._final_norm)

    def _attend(self, layer: int, q: Tensor, parts: Sequence[PackedRows]) -> Tensor:
        """Open positions come first, then prompts."""
        attended = torch.empty_like(q)
        first = 0
        for number, part in enumerate(parts):
            rows = slice(first, first + len(part))
            first = rows.stop
            config = PROMPTS if number else OPEN
            ragged_attention(
                q[rows],
                self.cache.keys[layer],
                self.cache.values[layer],
                part.calls,
                max_rows_per_call=part.bounds.rows_per_call,
                max_prompt=part.bounds.prompt,
                split_keys=self._split_for(config, part),
                config=config,
                out=attended[rows],
            )
        return attended

    def _split_for(self, config: AttentionConfig, part: PackedRows) -> int | None:
        """Whether the prompt goes to several programs, to keep the device busy."""
        num_tiles = -(-part.bounds.rows_per_call * self._group // config.queries)
        num_programs = len(part.calls.prompt_start) * self._config.n_kv_heads * num_tiles
        return SPLIT_KEYS if self._may_split and num_programs < FEW_PROGRAMS else None

    def _merge(self, x: Tensor, attended: Tensor, block: Block, gated: Tensor) -> Tensor:
        x = self._add_linear(x, attended, block.attn_out.weight)
        hidden = self._gated_linear(self._norm(x, block.ff_norm.weight), gated)
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


def _gated_library_linear(x: Tensor, weight: Tensor) -> Tensor:
    return gate(F.linear(x, weight))


def _add_library_linear(x: Tensor, update: Tensor, weight: Tensor) -> Tensor:
    return x.addmm_(update, weight.T)
