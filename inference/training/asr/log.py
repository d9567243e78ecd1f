"""The lines of a training run's curve."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from torch import Tensor

from inference.training.asr.config import AsrTrainingConfig
from inference.training.asr.pool import SpeechPool
from inference.training.asr.state import Progress

CURVE_FILE = "curve.jsonl"


class Curve:
    """Progress, printed and appended to `curve.jsonl`, so that a resumed run goes on in the same file."""

    def __init__(
        self, config: AsrTrainingConfig, progress: Progress, pool: SpeechPool, started: float
    ) -> None:
        self._path = config.output / CURVE_FILE
        self._config, self._progress, self._pool, self._started = config, progress, pool, started
        self._losses: list[tuple[Tensor, Tensor]] = []
        self.last_wer: dict[str, float] = {}

    def add(self, decoder_loss: Tensor, ctc_loss: Tensor) -> None:
        """Collect one step's losses; every so many steps their mean becomes a line (the only wait for the device).

        Raises FloatingPointError when the loss is not finite.
        """
        self._losses.append((decoder_loss, ctc_loss))
        if len(self._losses) < self._config.log_every_steps:
            return
        means = torch.stack([torch.stack(pair) for pair in self._losses]).mean(0).tolist()
        self._losses.clear()
        if not math.isfinite(means[0]):
            raise FloatingPointError(f"the loss is {means[0]} at step {self._progress.step}")
        self.write("step", loss=round(means[0], 4), ctc=round(means[1], 4))

    def write(self, event: str, **values: Any) -> None:
        """Append one event and print it."""
        self.last_wer = values.get("wer", self.last_wer)
        step, fraction = self._progress.step, self._progress.fraction
        line = {
            "step": step,
            "seconds": round(time.monotonic() - self._started, 1),
            "fraction": round(fraction, 4),
            "rate": round(self._config.rate_at(step, fraction), 7),
            "pool_hours": round(self._pool.hours, 2),
            "event": event,
            **values,
        }
        text = json.dumps(line)
        with self._path.open("a") as file:
            file.write(text + "\n")
        print(text, flush=True)
