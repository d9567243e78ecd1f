"""The commit of all canvases: one kernel against the same rule in torch on padded canvases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Job, Variant
from inference.diffusion.kernels import naive
from inference.diffusion.kernels.commit import commit
from inference.diffusion.kernels.naive import Commit, Rule
from inference.diffusion.rules import Factor, Threshold

PARAMETER = {Rule.THRESHOLD: 0.9, Rule.FACTOR: 1.0, Rule.QUOTA: 3.0, Rule.JOINT: 0.5}
CANVASES_PER_CALL = 3


@dataclass(frozen=True, slots=True)
class CommitSizes:
    num_calls: tuple[int, ...] = (1, 64)
    length: int = 54
    num_masked: int = 30


class CommitBench:
    """Canvases with random masked positions, ragged and padded."""

    def __init__(self, sizes: CommitSizes, num_calls: int, device: torch.device) -> None:
        self.sizes, self.num_canvases = sizes, num_calls * CANVASES_PER_CALL
        generator = torch.Generator().manual_seed(num_calls)
        shape = (self.num_canvases, sizes.length)
        is_open = torch.rand(shape, generator=generator) < sizes.num_masked / sizes.length
        self.is_open = is_open.to(device)
        self.padded_confidence = (torch.rand(shape, generator=generator) ** 0.2).to(device)
        counts = is_open.sum(1)
        self.offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int().to(device)
        self.position = is_open.flatten().nonzero()[:, 0].int().to(device)
        self.confidence = self.padded_confidence[self.is_open]
        self.choice = torch.arange(len(self.position), dtype=torch.int32, device=device)
        self.tokens = torch.full((is_open.numel(),), -1, device=device)
        self.token_confidence = torch.zeros(is_open.numel(), device=device)

    def ragged(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        buffers = (self.tokens, self.token_confidence)
        return *buffers, self.confidence, self.choice, self.position, self.offsets

    def parameter(self, rule: Rule) -> Tensor:
        return torch.full((self.num_canvases,), PARAMETER[rule], device=self.offsets.device)

    def check(self, rule: Rule, is_committed: Tensor) -> str | None:
        tokens, kept, confidence, choice, position, offsets = self.ragged()
        inputs = (confidence, choice, position, offsets, self.parameter(rule))
        truth = naive.commit(tokens.clone(), kept.clone(), *inputs, rule=rule)
        num_wrong = int((truth.is_committed != is_committed).sum())
        return f"{num_wrong} rows differ" if num_wrong else None


def variants(sizes: CommitSizes, device: torch.device) -> Iterator[Variant]:
    for num_calls in sizes.num_calls:
        bench = CommitBench(sizes, num_calls, device)
        shape = f"{num_calls} calls"
        for rule, dense in ((Rule.THRESHOLD, Threshold(0.9)), (Rule.FACTOR, Factor(1.0))):
            name = rule.name.lower()
            torch_job = partial(_torch_job, bench, rule, dense.choose)
            yield Variant(
                "commit", f"{shape}, {name}", "torch.compile", partial(torch_job, True), True
            )
            yield Variant("commit", f"{shape}, {name}", "eager torch", partial(torch_job, False))
            yield Variant("commit", f"{shape}, {name}", "kernel", partial(_kernel, bench, rule))
        for rule in (Rule.QUOTA, Rule.JOINT):
            yield Variant(
                "commit", f"{shape}, {rule.name.lower()}", "kernel", partial(_kernel, bench, rule)
            )


def _kernel(bench: CommitBench, rule: Rule) -> Job:
    parameter, max_rows = bench.parameter(rule), bench.sizes.length

    def call(_: int) -> Commit:
        return commit(*bench.ragged(), parameter, rule=rule, max_rows=max_rows)

    return Job(call, lambda found: bench.check(rule, found.is_committed))


def _torch_job(
    bench: CommitBench, rule: Rule, choose: Callable[[Tensor, Tensor], Tensor], is_compiled: bool
) -> Job:
    shape = bench.is_open.shape
    tokens, kept = bench.tokens.view(shape), bench.token_confidence.view(shape)
    choice = torch.zeros(shape, dtype=tokens.dtype, device=tokens.device)

    def step(confidence: Tensor, is_open: Tensor) -> tuple[Tensor, ...]:
        chosen = choose(confidence, is_open)
        num_masked = is_open.sum(1) - chosen.sum(1)
        return (
            chosen,
            torch.where(chosen, choice, tokens),
            torch.where(chosen, confidence, kept),
            num_masked,
            num_masked == 0,
        )

    run: Callable[..., Any] = torch.compile(step, dynamic=False) if is_compiled else step
    return Job(
        lambda _: run(bench.padded_confidence, bench.is_open),
        lambda found: bench.check(rule, found[0][bench.is_open]),
    )
