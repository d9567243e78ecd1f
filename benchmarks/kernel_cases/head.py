"""LM head and reduction to maximum, argmax and log-sum-exp: fused against what torch offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Job, Variant
from inference.diffusion.kernels import naive
from inference.diffusion.kernels.head import FusedHead, HeadConfig
from inference.diffusion.kernels.naive import HeadReduction
from inference.diffusion.kernels.vocabulary_layout import class_layout

FUSED_TOLERANCE = 2e-3  # the order in which float32 products are summed
ROUNDED_TOLERANCE = 0.1  # bfloat16 logits up to 16 are 1/16 apart

WIDE = HeadConfig(rows=128, columns=256, inner=64, num_warps=8, num_stages=4)
NARROW = HeadConfig(rows=128, columns=128, inner=64, num_warps=4, num_stages=3)
TALL = HeadConfig(rows=256, columns=128, inner=64, num_warps=8, num_stages=4)
CONFIGS = {
    "128x256": WIDE,
    "128x128": NARROW,
    "256x128": TALL,
    "64x256": replace(WIDE, rows=64, num_warps=4),
}


@dataclass(frozen=True, slots=True)
class HeadSizes:
    num_rows: tuple[int, ...] = (256, 1024, 2048, 64)
    vocab: int = 126_464
    d_model: int = 4096
    dtype: torch.dtype = torch.bfloat16


class HeadBench:
    """Inputs and references, made when first asked for."""

    def __init__(self, sizes: HeadSizes, device: torch.device) -> None:
        self.sizes, self.device = sizes, device
        self.generator = torch.Generator(device).manual_seed(0)
        self._references: dict[int, HeadReduction] = {}

    @cached_property
    def weight(self) -> Tensor:
        return self._normal(self.sizes.vocab, scale=2.5 * self.sizes.d_model**-0.5)

    @cached_property
    def all_hidden(self) -> Tensor:
        return self._normal(max(self.sizes.num_rows), scale=1.0)

    @cached_property
    def token_class(self) -> Tensor:
        """Tables like those of three scorecards: two of free text, and fourteen with a class for each of 15 tokens.

        In free text most tokens are in four classes, some in small ones, some dead.
        """
        vocab = self.sizes.vocab
        tables = []
        for seed, num_small in ((1, 12), (2, 60)):
            generator = torch.Generator().manual_seed(seed)
            large = torch.randint(1, 5, (vocab,), generator=generator)
            small = torch.randint(5, 5 + num_small, (vocab,), generator=generator)
            draw = torch.rand(vocab, generator=generator)
            tables.append(large.where(draw > 0.01, small).where(draw > 0.004, 0))
        for seed in range(3, 17):
            generator = torch.Generator().manual_seed(seed)
            table = torch.zeros(vocab, dtype=torch.int64)
            table[torch.randperm(vocab, generator=generator)[:15]] = torch.arange(1, 16)
            tables.append(table)
        return torch.stack(tables).to(self.device)

    def hidden(self, num_rows: int) -> Tensor:
        return self.all_hidden[:num_rows]

    def logits(self, num_rows: int) -> Tensor:
        return self.hidden(num_rows).float() @ self.weight.float().T

    def reference(self, num_rows: int) -> HeadReduction:
        if num_rows not in self._references:
            self._references[num_rows] = naive.head_reduce(self.hidden(num_rows), self.weight)
        return self._references[num_rows]

    def check(self, num_rows: int, tolerance: float, found: HeadReduction) -> str | None:
        expected = self.reference(num_rows)
        for name in ("score", "lse"):
            error = (getattr(found, name).float() - getattr(expected, name)).abs().max().item()
            if not error <= tolerance:
                return f"{name} is off by {error:.3g}"
        chosen = self.logits(num_rows).gather(1, found.token.long()[:, None])[:, 0]
        gap = (expected.score - chosen).max().item()
        return None if gap <= 2 * tolerance else f"a chosen token is {gap:.3g} below the best"

    def job(self, num_rows: int, call: Callable[[int], Any], tolerance: float | None) -> Job:
        sizes = self.sizes
        check = (lambda _: None) if tolerance is None else partial(self.check, num_rows, tolerance)
        flops = 2.0 * num_rows * sizes.vocab * sizes.d_model
        return Job(call, check, flops=flops)

    def _normal(self, num_rows: int, scale: float) -> Tensor:
        shape = (num_rows, self.sizes.d_model)
        x = torch.randn(shape, generator=self.generator, device=self.device)
        return (x * scale).to(self.sizes.dtype)


def variants(bench: HeadBench) -> Iterator[Variant]:
    """Library code and ours."""
    for num_rows in bench.sizes.num_rows:
        yield from _variants_of(bench, num_rows)


def _variants_of(bench: HeadBench, num_rows: int) -> Iterator[Variant]:
    shape = f"{num_rows} rows"

    def variant(name: str, prepare: Callable[[], Job], is_baseline: bool = False) -> Variant:
        return Variant("head", shape, name, prepare, is_baseline)

    def product() -> Job:
        hidden, weight = bench.hidden(num_rows), bench.weight
        return bench.job(num_rows, lambda _: torch.mm(hidden, weight.T), None)

    def published() -> Job:
        hidden, weight = bench.hidden(num_rows), bench.weight
        return bench.job(num_rows, lambda _: _float64_confidence(hidden, weight), None)

    def compiled() -> Job:
        hidden, weight = bench.hidden(num_rows), bench.weight
        function = torch.compile(_float32_reduction, dynamic=False)
        call = lambda _: HeadReduction(*function(hidden, weight))  # noqa: E731
        return bench.job(num_rows, call, ROUNDED_TOLERANCE)

    yield variant("library product alone", product, is_baseline=True)
    for name, config in CONFIGS.items():
        yield _fused(bench, num_rows, f"fused {name}", config)
    yield _fused(bench, num_rows, "fused, as the engine takes it", None)
    yield variant("fused, by class", partial(_by_class, bench, num_rows))
    yield variant("torch.compile, float32", compiled)
    yield variant("eager, float64 (published)", published)
    yield variant("library product alone, again", product)


def _fused(bench: HeadBench, num_rows: int, name: str, config: HeadConfig | None) -> Variant:
    def prepare() -> Job:
        head, hidden = FusedHead(bench.weight, config=config), bench.hidden(num_rows)

        def check(found: HeadReduction) -> str | None:
            if not torch.equal(head(hidden[1:2]).lse, found.lse[1:2]):
                return "a row alone gives other bits than among others"
            return bench.check(num_rows, FUSED_TOLERANCE, found)

        beside = lambda _: torch.mm(hidden, bench.weight.T)  # noqa: E731
        job = bench.job(num_rows, lambda _: head(hidden), None)
        return replace(job, check=check, beside=beside)

    return Variant("head", f"{num_rows} rows", name, prepare)


def _by_class(bench: HeadBench, num_rows: int) -> Job:
    """Checked on a few rows: the reference holds several numbers per row and token."""
    num_classes = int(bench.token_class.max()) + 1
    hidden = bench.hidden(num_rows)
    row_table = torch.arange(num_rows, device=bench.device) % len(bench.token_class)
    head = FusedHead(bench.weight, class_layout(bench.token_class, num_classes))

    def check(found: HeadReduction) -> str | None:
        few = slice(0, 64)
        expected = naive.head_reduce_classes(
            hidden[few], bench.weight, bench.token_class, row_table[few], num_classes
        )
        for name in ("score", "lse", "row_lse"):
            ours, theirs = getattr(found, name)[few], getattr(expected, name)
            if not torch.allclose(ours, theirs, rtol=0, atol=FUSED_TOLERANCE):
                return f"{name} differs"
        return None

    return replace(bench.job(num_rows, lambda _: head(hidden, row_table), None), check=check)


def _float32_reduction(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = torch.mm(hidden, weight.T).float()
    score, token = logits.max(1)
    lse = logits.logsumexp(1)
    return score, token, lse, lse


def _float64_confidence(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What published decoders compute: a softmax over all logits in float64, and the probability of the best token."""
    logits = torch.mm(hidden, weight.T)
    token = logits.argmax(1)
    return logits.double().softmax(1).gather(1, token[:, None])[:, 0], token
