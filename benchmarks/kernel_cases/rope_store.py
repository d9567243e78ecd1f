"""Rotation of new queries and keys and the write to the cache: one kernel against torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Job, Variant
from inference.diffusion.kernels import naive
from inference.diffusion.kernels.rope_store import rotate_and_store
from inference.diffusion.model import rope_tables, rotate

NUM_SETS = 4  # layers: 5,760 rows of q, k and v are 140 MB, 90 are 2 MB


@dataclass(frozen=True, slots=True)
class RopeSizes:
    num_rows: tuple[int, ...] = (90, 5760)
    heads: tuple[tuple[int, int], ...] = ((32, 32), (32, 8))
    head_dim: int = 128
    max_position: int = 4096
    dtype: torch.dtype = torch.bfloat16


class RopeBench:
    """Projections of a few layers and one cache."""

    def __init__(
        self, sizes: RopeSizes, num_rows: int, heads: tuple[int, int], device: torch.device
    ) -> None:
        (self.n_heads, self.n_kv_heads), head_dim = heads, sizes.head_dim
        generator = torch.Generator(device).manual_seed(num_rows)
        width = self.n_heads + 2 * self.n_kv_heads
        self.projections = [
            torch.randn(num_rows, width, head_dim, generator=generator, device=device).to(
                sizes.dtype
            )
            for _ in range(NUM_SETS)
        ]
        draw = torch.randperm(sizes.max_position * 2, generator=generator, device=device)
        self.cache_rows = draw[:num_rows].int()
        self.positions = (draw[:num_rows] % sizes.max_position).int()
        angles = rope_tables(torch.arange(sizes.max_position, device=device), head_dim, 500_000.0)
        self.cos, self.sin = (x[:, 0, : head_dim // 2].contiguous() for x in angles)
        shape = (sizes.max_position * 2, self.n_kv_heads, head_dim)
        self.keys, self.values = (
            torch.zeros(shape, dtype=sizes.dtype, device=device) for _ in range(2)
        )
        self.num_bytes = 2 * self.projections[0].numel() * self.projections[0].element_size()

    def qkv(self, i: int) -> tuple[Tensor, ...]:
        sizes = [self.n_heads, self.n_kv_heads, self.n_kv_heads]
        return self.projections[i].split(sizes, dim=1)

    def check(self, rotated: Tensor) -> str | None:
        keys, values = torch.zeros_like(self.keys), torch.zeros_like(self.values)
        q, k, v = self.qkv(0)
        expected = naive.rotate_and_store(
            q, k, v, self.positions, self.cache_rows, self.cos, self.sin, keys, values
        )
        written = self.cache_rows.long()
        for name, found, truth in (
            ("q", rotated, expected),
            ("k", self.keys[written], keys[written]),
            ("v", self.values[written], values[written]),
        ):
            if not torch.allclose(found, truth, rtol=1 / 128, atol=1e-2):
                return f"{name} differs"
        return None


def variants(sizes: RopeSizes, device: torch.device) -> Iterator[Variant]:
    for heads in sizes.heads:
        for num_rows in sizes.num_rows:
            make = partial(_job, RopeBench, sizes, num_rows, heads, device)
            shape = f"{num_rows} rows, {heads[0]}/{heads[1]} heads"
            yield Variant("rope", shape, "torch.compile", partial(make, "compiled"), True)
            yield Variant("rope", shape, "eager torch", partial(make, "eager"))
            yield Variant("rope", shape, "kernel", partial(make, "kernel"))


def _job(
    bench_type: type[RopeBench],
    sizes: RopeSizes,
    num_rows: int,
    heads: tuple[int, int],
    device: torch.device,
    way: str,
) -> Job:
    bench = bench_type(sizes, num_rows, heads, device)
    index = bench.cache_rows.long()
    cos, sin = (
        torch.cat([x, x], 1)[bench.positions.long()][:, None] for x in (bench.cos, bench.sin)
    )

    def in_torch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bench.keys[index] = rotate(k, cos, sin)
        bench.values[index] = v
        return rotate(q, cos, sin)

    def in_kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return rotate_and_store(
            q,
            k,
            v,
            bench.positions,
            bench.cache_rows,
            bench.cos,
            bench.sin,
            bench.keys,
            bench.values,
        )

    ways: dict[str, Callable[..., Tensor]] = {"eager": in_torch, "kernel": in_kernel}
    run = torch.compile(in_torch, dynamic=False) if way == "compiled" else ways[way]
    return Job(
        lambda i: run(*bench.qkv(i)), bench.check, num_sets=NUM_SETS, num_bytes=bench.num_bytes
    )
