"""Root-mean-square norms of the rows of one call and of a chunk of prompts: one kernel against torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Job, Variant
from inference.diffusion.kernels import naive
from inference.diffusion.kernels.norm import rms_norm

EPS = 1e-5
NUM_SETS = 8


@dataclass(frozen=True, slots=True)
class NormSizes:
    num_rows: tuple[int, ...] = (96, 8192)
    width: int = 4096
    dtype: torch.dtype = torch.bfloat16


def variants(sizes: NormSizes, device: torch.device) -> Iterator[Variant]:
    for num_rows in sizes.num_rows:
        for name, is_kernel in (("kernel", True), ("torch", False)):
            job = partial(_job, sizes, num_rows, device, is_kernel=is_kernel)
            yield Variant("norm", f"{num_rows} rows", name, job)


def _job(sizes: NormSizes, num_rows: int, device: torch.device, *, is_kernel: bool) -> Job:
    generator = torch.Generator(device).manual_seed(num_rows)
    shape = (num_rows, sizes.width)
    rows = [
        torch.randn(shape, generator=generator, device=device).to(sizes.dtype)
        for _ in range(NUM_SETS)
    ]
    weight = torch.ones(sizes.width, dtype=sizes.dtype, device=device)

    def call(i: int) -> Tensor:
        if is_kernel:
            return rms_norm(rows[i], weight, EPS)
        return F.rms_norm(rows[i], (sizes.width,), weight, EPS)

    def check(found: Tensor) -> str | None:
        expected = naive.rms_norm(rows[0], weight, EPS)
        is_close = torch.allclose(found.float(), expected.float(), rtol=2e-2, atol=2e-2)
        return None if is_close else "differs from the naive norm"

    return Job(call, check, num_sets=NUM_SETS, num_bytes=2 * rows[0].nbytes)
