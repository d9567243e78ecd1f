"""How far a run is, and the state from which it goes on after a kill."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from inference.training.asr.learner import Learner

STATE_FILE = "state.pt"


class Progress:
    """How far a run is: its optimiser steps, and by the clock how much of its time is over."""

    def __init__(self, deadline: float, *, step: int = 0, fraction: float = 0.0) -> None:
        self.step = step
        self.deadline = deadline  # of the training, as `time.monotonic()` counts
        self._fraction_before = fraction
        self._resumed_at = time.monotonic()

    @property
    def fraction(self) -> float:
        """How much of the run is over: 0 to 1. A resumed run goes on from where it was saved."""
        budget = max(self.deadline - self._resumed_at, 1e-6)
        share = min(1.0, (time.monotonic() - self._resumed_at) / budget)
        return self._fraction_before + (1 - self._fraction_before) * share

    def start_clock(self) -> None:
        """Count from now: waiting for speech is not training."""
        self._resumed_at = time.monotonic()


def save_state(directory: Path, learner: Learner, progress: Progress) -> None:
    """Write the state file, whole or not at all."""
    state = {
        "model": learner.model.state_dict(),
        "ctc_head": learner.ctc_head.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "step": progress.step,
        "fraction": progress.fraction,
    }
    path = directory / STATE_FILE
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_state(directory: Path, learner: Learner, *, deadline: float) -> Progress | None:
    """Restore a saved state into the learner; None when there is none."""
    path = directory / STATE_FILE
    if not path.exists():
        return None
    state = torch.load(path, map_location=learner.device, weights_only=True)
    learner.model.load_state_dict(state["model"])
    learner.ctc_head.load_state_dict(state["ctc_head"])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.reseed(state["step"])
    return Progress(deadline, step=state["step"], fraction=state["fraction"])
