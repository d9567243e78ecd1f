"""The trunk over packed rows in plain PyTorch, with keys and values kept in one cache: the twin of `device.trunk`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.diffusion.memory import KVCache, Run
from inference.diffusion.model import Block, LladaModel, attend_all, rope_tables

# Rows between two attentions are computed so many at a time: what lies between the products stays in the processor's
# cache, and is small enough for the allocator to keep. All rows at once, 16,000, take half as long again.
ROWS_AT_ONCE = 2_048


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of a forward that see the same: `num_rows` of them, and the cache rows that they see."""

    num_rows: int
    seen: tuple[Run, ...]


class PlainTrunk:
    """The blocks of a model, run over rows of many calls.

    Dimensions of a head that rotate together are neighbours here, so that a rotation is a product of complex numbers.
    The product of a query and a key does not depend on their order.
    """

    def __init__(self, model: LladaModel, num_cache_rows: int, *, is_narrow: bool) -> None:
        """Lay out weights and cache.

        Args:
            model: in evaluation mode; its weights are shared where they are used as they are.
            num_cache_rows: tokens whose keys and values are kept.
            is_narrow: multiply and keep keys and values in bfloat16, with sums over layers and norms in the dtype of
                the weights. For CPUs that have units for it; a row is rounded alike in every batch.
        """
        weight = model.head_weight
        self._dtype = torch.bfloat16 if is_narrow else weight.dtype
        self.cache = KVCache.empty(model.config, num_cache_rows, self._dtype, weight.device)
        self._config = model.config
        self._embedding = model.embedding
        self._final_norm = model.final_norm.weight
        self._layers = [_Layer.of(block, self._dtype) for block in model.blocks]
        self._turns = _turns(model)

    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        places: Tensor,
        segments: Sequence[Segment],
        is_wanted: Tensor,
    ) -> Tensor:
        """One forward. The keys and values of all rows are written before a block attends.

        Args:
            tokens: integer `[num_rows]`, segment after segment.
            positions: integer `[num_rows]`.
            places: integer `[num_rows]`, cache row of each.
            segments: who sees what; their rows sum to `num_rows`.
            is_wanted: bool `[num_rows]`, rows whose hidden states are; others stop at their last keys and values.

        Returns:
            `[num_wanted, d_model]`, normalised, ready for the head.
        """
        x = F.embedding(tokens, self._embedding)
        turns = self._turns[positions]
        for number, layer in enumerate(self._layers):
            q = self._project(number, layer, x, places, turns)
            if number + 1 == len(self._layers):
                counts = [int(part.sum()) for part in is_wanted.split(_counts(segments))]
                segments = [Segment(n, s.seen) for n, s in zip(counts, segments, strict=True)]
                x, q = x[is_wanted], q[is_wanted]
            self._merge(layer, x, self._attend(number, q, segments))
        return self._norm(x, self._final_norm)

    def _project(
        self, number: int, layer: _Layer, x: Tensor, places: Tensor, turns: Tensor
    ) -> Tensor:
        """Rotated queries `[num_rows, n_heads, head_dim]`; keys and values go to the cache."""
        config, keys, values = self._config, self.cache.keys[number], self.cache.values[number]
        q = x.new_empty(len(x), config.n_heads, config.head_dim, dtype=self._dtype)
        for rows in _blocks(len(x)):
            normed = self._norm(x[rows], layer.attn_norm).to(self._dtype)
            joined = F.linear(normed, layer.qk).unflatten(-1, (-1, config.head_dim))
            rotated = _rotate(joined, turns[rows])
            q[rows] = rotated[:, : config.n_heads]
            keys[places[rows]] = rotated[:, config.n_heads :]
            values[places[rows]] = F.linear(normed, layer.v).unflatten(-1, (-1, config.head_dim))
        return q

    def _attend(self, number: int, q: Tensor, segments: Sequence[Segment]) -> Tensor:
        """`[num_rows, d_model]`."""
        keys, values = self.cache.keys[number], self.cache.values[number]
        attended = torch.empty_like(q)
        first = 0
        for segment in segments:
            rows = slice(first, first + segment.num_rows)
            first = rows.stop
            if segment.num_rows:
                k = _joined([keys[run.start : run.end] for run in segment.seen])
                v = _joined([values[run.start : run.end] for run in segment.seen])
                attended[rows] = attend_all(q[rows], k, v)
        return attended.flatten(1)

    def _merge(self, layer: _Layer, x: Tensor, attended: Tensor) -> None:
        """Add the attended values and the feed-forward layer to `x`, in place."""
        for rows in _blocks(len(x)):
            part = x[rows]
            part += F.linear(attended[rows], layer.attn_out)
            normed = self._norm(part, layer.ff_norm).to(self._dtype)
            gate = F.silu(F.linear(normed, layer.gate), inplace=True)
            part += F.linear(gate.mul_(F.linear(normed, layer.up)), layer.ff_out)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self._config.rms_norm_eps)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A block's weights. Rows of `qk` that rotate together are neighbours."""

    attn_norm: Tensor
    qk: Tensor
    v: Tensor
    attn_out: Tensor
    ff_norm: Tensor
    gate: Tensor
    up: Tensor
    ff_out: Tensor

    @classmethod
    def of(cls, block: Block, dtype: torch.dtype) -> _Layer:
        rotated = torch.cat([block.q_proj.weight, block.k_proj.weight]).detach().to(dtype)
        paired = rotated.unflatten(0, (-1, 2, block.head_dim // 2)).transpose(1, 2)
        return cls(
            attn_norm=block.attn_norm.weight.detach(),
            qk=paired.flatten(0, 2).contiguous(),
            v=block.v_proj.weight.detach().to(dtype),
            attn_out=block.attn_out.weight.detach().to(dtype),
            ff_norm=block.ff_norm.weight.detach(),
            gate=block.ff_proj.weight.detach().to(dtype),
            up=block.up_proj.weight.detach().to(dtype),
            ff_out=block.ff_out.weight.detach().to(dtype),
        )


def _turns(model: LladaModel) -> Tensor:
    """By how much each pair of dimensions turns at each position, complex64 `[max_positions, 1, head_dim / 2]`."""
    config, device = model.config, model.head_weight.device
    positions = torch.arange(config.max_sequence_length, device=device)
    cos, sin = rope_tables(positions, config.head_dim, config.rope_theta)
    half = config.head_dim // 2
    return torch.complex(cos[..., :half], sin[..., :half])


def _rotate(heads: Tensor, turns: Tensor) -> Tensor:
    """`[num_rows, heads, head_dim]` with pairs side by side, turned in float32; same dtype."""
    pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(heads.dtype)


def _blocks(num_rows: int) -> list[slice]:
    return [slice(first, first + ROWS_AT_ONCE) for first in range(0, num_rows, ROWS_AT_ONCE)]


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))


def _counts(segments: Sequence[Segment]) -> list[int]:
    return [segment.num_rows for segment in segments]
