"""Projections of a block of LLaDA-8B: kernels whose rows are independent against a library's products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Job, Variant
from inference.diffusion.kernels import naive
from inference.diffusion.kernels.gate import gate
from inference.diffusion.kernels.linear import gated_linear, linear

CHECKED_ROWS = 32
TOLERANCE = 2e-2  # of results of about one, rounded to bfloat16


@dataclass(frozen=True, slots=True)
class ProjectionSizes:
    num_rows: tuple[int, ...] = (96, 512, 2048, 5760, 8192)
    d_model: int = 4096
    mlp: int = 12288
    dtype: torch.dtype = torch.bfloat16


def variants(sizes: ProjectionSizes, device: torch.device) -> Iterator[Variant]:
    for num_rows in sizes.num_rows:
        for name in ("qkv", "attention out", "feed-forward out"):
            for is_kernel in (False, True):
                yield Variant(
                    "projections",
                    f"{name}, {num_rows} rows",
                    "kernel" if is_kernel else "library",
                    partial(_linear_job, sizes, name, num_rows, device, is_kernel=is_kernel),
                    is_baseline=not is_kernel,
                )
        for is_kernel in (False, True):
            yield Variant(
                "projections",
                f"feed-forward in and gate, {num_rows} rows",
                "kernel" if is_kernel else "library, then the gate",
                partial(_gated_job, sizes, num_rows, device, is_kernel=is_kernel),
                is_baseline=not is_kernel,
            )


def _linear_job(
    sizes: ProjectionSizes, name: str, num_rows: int, device: torch.device, *, is_kernel: bool
) -> Job:
    num_inner, num_columns = {
        "qkv": (sizes.d_model, 3 * sizes.d_model),
        "attention out": (sizes.d_model, sizes.d_model),
        "feed-forward out": (sizes.mlp, sizes.d_model),
    }[name]
    x, weight = _inputs(num_rows, num_inner, num_columns, sizes.dtype, device)
    residual = None if name == "qkv" else x.new_ones(num_rows, num_columns)

    def ours(_: int) -> Tensor:
        return linear(x, weight, residual)

    summed = None if residual is None else residual.clone()

    def library(_: int) -> Tensor:
        return torch.mm(x, weight.T) if summed is None else summed.addmm_(x, weight.T)

    rest = None if residual is None else residual[:CHECKED_ROWS]
    expected = naive.linear(x[:CHECKED_ROWS], weight, rest)
    return _job(ours, library, expected, 2.0 * num_rows * num_inner * num_columns, is_kernel)


def _gated_job(
    sizes: ProjectionSizes, num_rows: int, device: torch.device, *, is_kernel: bool
) -> Job:
    x, weight = _inputs(num_rows, sizes.d_model, 2 * sizes.mlp, sizes.dtype, device)

    def ours(_: int) -> Tensor:
        return gated_linear(x, weight)

    def library(_: int) -> Tensor:
        return gate(torch.mm(x, weight.T))

    expected = naive.gated_linear(x[:CHECKED_ROWS], weight)
    return _job(ours, library, expected, 4.0 * num_rows * sizes.d_model * sizes.mlp, is_kernel)


def _job(
    ours: Callable[[int], Any],
    library: Callable[[int], Any],
    expected: Tensor,
    flops: float,
    is_kernel: bool,
) -> Job:
    def check(found: Tensor) -> str | None:
        error = (found[: len(expected)].float() - expected.float()).abs().max().item()
        limit = TOLERANCE * max(1.0, expected.float().abs().max().item())
        return None if error <= limit else f"off by {error:.3g}"

    return Job(
        ours if is_kernel else library, check, flops=flops, beside=library if is_kernel else None
    )


def _inputs(
    num_rows: int, num_inner: int, num_columns: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(num_rows)
    x = torch.randn(num_rows, num_inner, generator=generator, device=device)
    weight = torch.randn(num_columns, num_inner, generator=generator, device=device)
    return x.to(dtype), (weight * num_inner**-0.5).to(dtype)
