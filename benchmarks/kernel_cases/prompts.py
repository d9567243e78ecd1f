"""Attention of packed prompts that see themselves, over a cache with their keys and values: a kernel against torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure import Job, Variant
from inference.diffusion.kernels.attention import AttentionConfig, ragged_attention
from inference.diffusion.kernels.naive import OpenRows

CONFIGS = {
    "64x64": AttentionConfig(queries=64, keys=64, num_warps=4, num_stages=3),
    "64x32": AttentionConfig(queries=64, keys=32, num_warps=4, num_stages=3),
    "128x64, two at a time": AttentionConfig(
        queries=128, keys=64, num_warps=8, num_stages=2, max_registers=128
    ),
    "128x128": AttentionConfig(queries=128, keys=128, num_warps=8, num_stages=3),
}
NUM_LAYERS = 3  # 61 MB each for 7,500 tokens: more than fits in L2
GAP = 7  # cache rows between prompts, which nobody may read


@dataclass(frozen=True, slots=True)
class PromptSizes:
    lengths: tuple[tuple[int, ...], ...] = ((1003, 1990, 1472, 1234, 1800), (1500,))
    heads: int = 32
    head_dim: int = 128
    dtype: torch.dtype = torch.bfloat16


class PromptBench:
    """Queries of some prompts one behind the other, and a cache with their keys and values."""

    def __init__(self, sizes: PromptSizes, lengths: tuple[int, ...], device: torch.device) -> None:
        self.sizes, self.lengths, self.device = sizes, lengths, device
        self.offsets = [0, *accumulate(lengths)]
        self.starts = [GAP + offset + i * GAP for i, offset in enumerate(self.offsets[:-1])]

    @cached_property
    def layers(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Queries, keys and values."""
        generator = torch.Generator(self.device).manual_seed(1)
        cache_rows = self.starts[-1] + self.lengths[-1] + GAP

        def random(num_rows: int) -> Tensor:
            shape = (num_rows, self.sizes.heads, self.sizes.head_dim)
            x = torch.randn(shape, generator=generator, device=self.device)
            return x.to(self.sizes.dtype)

        num_rows = self.offsets[-1]
        return [
            (random(num_rows), random(cache_rows), random(cache_rows)) for _ in range(NUM_LAYERS)
        ]

    @cached_property
    def rows(self) -> OpenRows:
        ends = [start + length for start, length in zip(self.starts, self.lengths, strict=True)]
        none = self.ints([])
        return OpenRows(
            self.ints(self.offsets), self.ints(self.starts), self.ints(ends), none, none, none
        )

    def check(self, found: Tensor) -> str | None:
        """Compare three rows of every prompt with float32."""
        q, keys, values = self.layers[0]
        for offset, start, length in zip(self.offsets, self.starts, self.lengths, strict=False):
            k, v = (x[start : start + length].float() for x in (keys, values))
            for row in {offset, offset + length // 2, offset + length - 1}:
                scores = torch.einsum("hd,nhd->hn", q[row].float(), k) * q.shape[2] ** -0.5
                expected = torch.einsum("hn,nhd->hd", scores.softmax(-1), v)
                error = ((found[row].float() - expected).norm() / expected.norm()).item()
                if not error < 0.02:
                    return f"row {row} is off by {error:.3g}"
        return None

    def job(self, call: Callable[[int], Tensor]) -> Job:
        per_pair = 4.0 * self.sizes.heads * self.sizes.head_dim
        flops = per_pair * sum(length * length for length in self.lengths)
        return Job(call, self.check, num_sets=NUM_LAYERS, flops=flops)

    def ints(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self.device)


def variants(sizes: PromptSizes, device: torch.device) -> Iterator[Variant]:
    for lengths in sizes.lengths:
        bench = PromptBench(sizes, lengths, device)
        make = partial(Variant, "prompts", f"{len(lengths)} prompts, {sum(lengths)} tokens")
        for name, config in CONFIGS.items():
            yield make(f"kernel {name}", partial(_kernel, bench, config))
        yield make("varlen, keys packed", partial(_varlen, bench))
        if device.type == "cuda":
            yield make("SDPA cuDNN, prompt by prompt", partial(_prompt_by_prompt, bench))


def _kernel(bench: PromptBench, config: AttentionConfig) -> Job:
    longest = max(bench.lengths)

    def call(i: int) -> Tensor:
        return ragged_attention(
            *bench.layers[i],
            bench.rows,
            max_rows_per_call=longest,
            max_prompt=longest,
            config=config,
        )

    return bench.job(call)


def _varlen(bench: PromptBench) -> Job:
    """Variable-length flash attention over keys and values without gaps; the packing is not counted."""
    from torch.nn.attention.varlen import (
        varlen_attn,
    )  # not in every torch: its absence is this variant's result

    spans = [
        torch.arange(start, start + length)
        for start, length in zip(bench.starts, bench.lengths, strict=True)
    ]
    places = torch.cat(spans).to(bench.device)
    packed = [(keys[places], values[places]) for _, keys, values in bench.layers]
    offsets, longest = bench.ints(bench.offsets), max(bench.lengths)

    def call(i: int) -> Tensor:
        q, (keys, values) = bench.layers[i][0], packed[i]
        found = varlen_attn(q, keys, values, offsets, offsets, longest, longest)
        assert isinstance(found, Tensor)
        return found

    return bench.job(call)


def _prompt_by_prompt(bench: PromptBench) -> Job:
    """A launch of cuDNN's attention for each prompt."""

    def call(i: int) -> Tensor:
        q, keys, values = bench.layers[i]
        out = torch.empty_like(q)
        for offset, start, length in zip(bench.offsets, bench.starts, bench.lengths, strict=False):
            own, seen = slice(offset, offset + length), slice(start, start + length)
            one, k, v = (x.transpose(0, 1)[None] for x in (q[own], keys[seen], values[seen]))
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                out[own] = F.scaled_dot_product_attention(one, k, v)[0].transpose(0, 1)
        return out

    return bench.job(call)
