"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of the curriculum: until this fraction of the run, windows of so many seconds, so many a step."""

    until: float
    seconds: float
    windows: int


@dataclass(frozen=True, slots=True)
class AsrTrainingConfig:
    """One run. `work` holds pool, tokenizer and state; `output` receives weights, curve and the run's record.

    The learning rate falls to zero and the curriculum ends when `max_seconds` of wall clock, counted from the call, are
    over.
    """

    work: Path
    output: Path
    start_from: Path | None = (
        None  # weights to go on from, and their tokenizer; see `going_on_from`
    )
    max_seconds: float = 590.0
    reserve_seconds: float = 12.0  # of max_seconds, kept for the last evaluation and the export
    seed: int = 1
    device: str = "cuda"
    synthesis_processes: int = 14
    synthesis_seconds: float = 270.0
    shard_seconds: float = 300.0
    first_hours: float = 3.0  # training waits for this much speech
    capacity_hours: float = (
        550.0  # 32 GB of the device's memory; training itself takes as much again
    )
    tokenizer_texts: int = 150_000
    stages: tuple[Stage, ...] = (
        Stage(until=0.2, seconds=8, windows=288),
        Stage(until=0.45, seconds=16, windows=192),
        Stage(until=1.0, seconds=30, windows=112),
    )
    learning_rate: float = 1.5e-3
    warmup_steps: int = 400
    weight_decay: float = 0.05
    dropout: float = 0.05
    label_smoothing: float = 0.03
    ctc_weight: tuple[float, float] = (0.5, 0.3)  # at the start, and where it is switched off
    ctc_until: float = 0.6
    mask_from: float = (
        0.15  # features are hidden and bent from here on: not before the model hears at all
    )
    width: int = 384
    layers: int = 4
    save_every_seconds: float = 75.0
    evaluations: int = 8
    log_every_steps: int = 25

    def stage_at(self, fraction: float) -> Stage:
        """The curriculum's stage at this fraction of the run, 0 to 1."""
        return next((stage for stage in self.stages if fraction < stage.until), self.stages[-1])

    def rate_at(self, step: int, fraction: float) -> float:
        """The learning rate: linear warm-up by steps, cosine to zero by the clock."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        return self.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * fraction))

    def ctc_weight_at(self, fraction: float) -> float:
        """What the CTC loss counts beside the decoder's, on a line from the first weight to the last."""
        first, last = self.ctc_weight
        return first + (last - first) * min(1.0, fraction / self.ctc_until)

    def going_on_from(self, checkpoint: Path) -> AsrTrainingConfig:
        """The same run, but from a trained checkpoint: it hears already, so long windows and hidden features at once.

        The rate peaks at two thirds: enough to learn new voices, and not so much that what is known is lost first.
        """
        return replace(
            self,
            start_from=checkpoint,
            stages=(self.stages[-1],),
            learning_rate=self.learning_rate * 2 / 3,
            ctc_weight=(0.2, 0.2),  # its head starts anew and must not shake the encoder
            mask_from=0.0,
        )
