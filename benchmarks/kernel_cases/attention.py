"""Attention of open positions over their call's prompt and their own canvas: one kernel against torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Job, Variant
from inference.diffusion.kernels import naive
from inference.diffusion.kernels.attention import AttentionConfig, ragged_attention
from inference.diffusion.kernels.naive import OpenRows
from inference.diffusion.model import attend_all

CONFIGS = {
    "64x32": AttentionConfig(queries=64, keys=32, num_warps=4, num_stages=3),
    "64x64": AttentionConfig(queries=64, keys=64, num_warps=4, num_stages=3),
    "128x32": AttentionConfig(queries=128, keys=32, num_warps=8, num_stages=4),
    "128x64": AttentionConfig(queries=128, keys=64, num_warps=8, num_stages=3),
}
LAYERS_BYTES = 200 << 20  # rotate through layers until they fill L2 several times over


@dataclass(frozen=True, slots=True)
class AttentionSizes:
    num_calls: tuple[int, ...] = (1, 8, 64)
    heads: tuple[tuple[int, int], ...] = ((32, 32), (32, 8))
    head_dim: int = 128
    prompt: tuple[int, int] = (1000, 2000)
    canvases: tuple[int, ...] = (54, 53, 53)
    num_open: int = 30  # of each canvas
    splits: tuple[int, ...] = (256, 512)
    dtype: torch.dtype = torch.bfloat16


class AttentionBench:
    """Calls one behind the other in a cache: prompt, then canvases. Open positions are the first of each canvas."""

    def __init__(
        self, sizes: AttentionSizes, num_calls: int, heads: tuple[int, int], device: torch.device
    ) -> None:
        self.sizes, self.num_calls, self.device = sizes, num_calls, device
        self.n_heads, self.n_kv_heads = heads
        generator = torch.Generator().manual_seed(num_calls)
        low, high = sizes.prompt
        self.prompts = torch.randint(low, high + 1, (num_calls,), generator=generator).tolist()
        self.rows_per_call = sizes.num_open * len(sizes.canvases)
        self.cache_rows = sum(self.prompts) + num_calls * sum(sizes.canvases)

    @cached_property
    def spans(self) -> list[tuple[tuple[int, int], list[tuple[int, int]]]]:
        """Cache rows of every call: its prompt, and each of its canvases."""
        spans, place = [], 0
        for prompt in self.prompts:
            prompt_span, place = (place, place + prompt), place + prompt
            canvases = []
            for length in self.sizes.canvases:
                canvases.append((place, place + length))
                place += length
            spans.append((prompt_span, canvases))
        return spans

    @cached_property
    def rows(self) -> OpenRows:
        canvases = [span for _, spans in self.spans for span in spans]
        num_canvases = torch.arange(len(canvases), dtype=torch.int32, device=self.device)
        return OpenRows(
            call_offsets=self._ints(range(0, self.num_rows + 1, self.rows_per_call)),
            prompt_start=self._ints(span[0] for span, _ in self.spans),
            prompt_end=self._ints(span[1] for span, _ in self.spans),
            row_canvas=num_canvases.repeat_interleave(self.sizes.num_open),
            canvas_start=self._ints(span[0] for span in canvases),
            canvas_end=self._ints(span[1] for span in canvases),
        )

    @property
    def num_rows(self) -> int:
        return self.num_calls * self.rows_per_call

    @cached_property
    def layers(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Queries, keys and values of as many layers as are needed."""
        generator = torch.Generator(self.device).manual_seed(1)
        cache_shape = (self.cache_rows, self.n_kv_heads, self.sizes.head_dim)
        shapes = ((self.num_rows, self.n_heads, self.sizes.head_dim), cache_shape, cache_shape)

        def random(shape: tuple[int, ...]) -> Tensor:
            x = torch.randn(shape, generator=generator, device=self.device)
            return x.to(self.sizes.dtype)

        num_layers = 1 if self.device.type == "cpu" else max(1, LAYERS_BYTES // self.num_bytes)
        return [
            (random(shapes[0]), random(shapes[1]), random(shapes[2])) for _ in range(num_layers)
        ]

    @property
    def num_bytes(self) -> int:
        """Keys and values once."""
        per_row = 2 * self.n_kv_heads * self.sizes.head_dim * self.sizes.dtype.itemsize
        return self.cache_rows * per_row

    @property
    def flops(self) -> float:
        """Of the two products, for what each open position sees."""
        canvas = sum(self.sizes.canvases) / len(self.sizes.canvases)
        seen = sum(prompt + canvas for prompt in self.prompts) * self.rows_per_call
        return 4.0 * seen * self.n_heads * self.sizes.head_dim

    def check(self, found: Tensor) -> str | None:
        """Compare the first and the last call with the naive attention."""
        q, keys, values = self.layers[0]
        for call in {0, self.num_calls - 1}:
            own = slice(call * self.rows_per_call, (call + 1) * self.rows_per_call)
            rows = OpenRows(
                call_offsets=self._ints([0, self.rows_per_call]),
                prompt_start=self.rows.prompt_start[call : call + 1],
                prompt_end=self.rows.prompt_end[call : call + 1],
                row_canvas=self.rows.row_canvas[own],
                canvas_start=self.rows.canvas_start,
                canvas_end=self.rows.canvas_end,
            )
            expected = naive.ragged_attention(q[own], keys, values, rows).float()
            error = (found[own].float() - expected).norm() / expected.norm()
            if not error.item() < 0.01:
                return f"call {call} is off by {error.item():.3g}"
        return None

    def job(self, call: Callable[[int], Tensor], *, captured: bool = True) -> Job:
        return Job(
            call,
            self.check,
            num_sets=len(self.layers),
            captured=captured,
            flops=self.flops,
            num_bytes=self.num_bytes,
        )

    def _ints(self, values: Iterable[int]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.int32, device=self.device)


def variants(sizes: AttentionSizes, device: torch.device) -> Iterator[Variant]:
    for heads in sizes.heads:
        # What differs with grouped heads is the batch; one call is dominated by launches and splits.
        for num_calls in sizes.num_calls if heads == sizes.heads[0] else sizes.num_calls[-1:]:
            bench = AttentionBench(sizes, num_calls, heads, device)
            shape = f"{num_calls} calls, {heads[0]}/{heads[1]} heads"
            make = partial(Variant, "attention", shape)
            yield make("SDPA, padded, gather not counted", partial(_padded, bench), True)
            yield make("SDPA per canvas", partial(_per_canvas, bench))
            yield make("varlen, prompt repeated", partial(_varlen, bench))
            for name, config in CONFIGS.items():
                yield make(f"kernel {name}", partial(_kernel, bench, config, None))
            for split in sizes.splits if num_calls < max(sizes.num_calls) else ():
                for name in ("64x64", "128x64"):
                    job = partial(_kernel, bench, CONFIGS[name], split)
                    yield make(f"kernel {name}, split {split}", job)


def _kernel(bench: AttentionBench, config: AttentionConfig, split_keys: int | None) -> Job:
    def call(i: int) -> Tensor:
        return ragged_attention(
            *bench.layers[i],
            bench.rows,
            max_rows_per_call=bench.rows_per_call,
            max_prompt=max(bench.prompts),
            split_keys=split_keys,
            config=config,
        )

    return bench.job(call)


def _per_canvas(bench: AttentionBench) -> Job:
    """One library call per canvas over a copy of what it sees, as `PlainTrunk` does."""

    def call(i: int) -> Tensor:
        q, keys, values = bench.layers[i]
        parts = iter(q.split(bench.sizes.num_open))
        out = []
        for prompt, canvases in bench.spans:
            for canvas in canvases:
                k, v = (torch.cat([x[slice(*prompt)], x[slice(*canvas)]]) for x in (keys, values))
                out.append(attend_all(next(parts), k, v))
        return torch.cat(out)

    return bench.job(call)


def _padded(bench: AttentionBench) -> Job:
    """One library call over keys and values that lie padded already, with a mask."""
    lengths = [canvases[-1][1] - prompt[0] for prompt, canvases in bench.spans]
    seen = torch.zeros(
        bench.num_calls, 1, bench.rows_per_call, max(lengths), dtype=torch.bool, device=bench.device
    )
    for call, (prompt, canvases) in enumerate(bench.spans):
        seen[call, :, :, : prompt[1] - prompt[0]] = True
        for i, canvas in enumerate(canvases):
            own = slice(i * bench.sizes.num_open, (i + 1) * bench.sizes.num_open)
            seen[call, :, own, canvas[0] - prompt[0] : canvas[1] - prompt[0]] = True
    padded: list[tuple[Tensor, ...]] = []
    for q, keys, values in bench.layers:
        shape = (bench.num_calls, max(lengths), bench.n_kv_heads, bench.sizes.head_dim)
        k, v = q.new_zeros(shape), q.new_zeros(shape)
        for call, (prompt, _) in enumerate(bench.spans):
            own = slice(prompt[0], prompt[0] + lengths[call])
            k[call, : lengths[call]] = keys[own]
            v[call, : lengths[call]] = values[own]
        by_call = q.unflatten(0, (bench.num_calls, bench.rows_per_call))
        padded.append(tuple(x.transpose(1, 2) for x in (by_call, k, v)))

    def run(i: int) -> Tensor:
        q, k, v = padded[i]
        is_grouped = bench.n_heads != bench.n_kv_heads
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=is_grouped)
        return out.transpose(1, 2).flatten(0, 1)

    return bench.job(run)


def _varlen(bench: AttentionBench) -> Job:
    """Variable-length flash attention over a copy of the prompt per canvas; the copying is not counted."""
    from torch.nn.attention.varlen import (
        varlen_attn,
    )  # not in every torch: its absence is this variant's result

    seen = [
        torch.cat([torch.arange(*prompt), torch.arange(*canvas)])
        for prompt, canvases in bench.spans
        for canvas in canvases
    ]
    index = torch.cat(seen).to(bench.device)
    lengths = torch.tensor([0, *map(len, seen)], device=bench.device)
    q_ends = torch.arange(0, bench.num_rows + 1, bench.sizes.num_open, device=bench.device).int()
    k_ends = lengths.cumsum(0).int()
    group = bench.n_heads // bench.n_kv_heads
    layers = [
        (q, *(x[index].repeat_interleave(group, 1) for x in (keys, values)))
        for q, keys, values in bench.layers
    ]
    most = max(map(len, seen))

    def call(i: int) -> Tensor:
        q, k, v = layers[i]
        out = varlen_attn(q, k, v, q_ends, k_ends, bench.sizes.num_open, most)
        assert isinstance(out, Tensor)
        return out

    return bench.job(call)
