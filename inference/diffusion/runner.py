"""What the engine asks of the code that runs the model: canvases enter, are denoised step by step, come back filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inference.diffusion.batch import Branch, LiveCall


@dataclass(frozen=True, slots=True)
class FilledCanvas:
    """A canvas without masked positions, one entry per token.

    Attributes:
        branch: whose canvas it is.
        tokens: the canvas.
        confidence: constrained probability of each token when it was committed; 1 for the scaffold's own.
        commit_step: the step in which each token was committed, counted from the branch's first; 0 for the scaffold's.
    """

    branch: Branch
    tokens: list[int]
    confidence: list[float]
    commit_step: list[int]


class Runner(Protocol):
    """Runs the model for the engine, which says in what rows of the cache a call lies until it leaves."""

    def enter(self, calls: Sequence[LiveCall]) -> None:
        """Take in calls: the next step encodes their prompts and denoises their canvases."""

    def denoise(self) -> None:
        """One forward over new prompts and the open positions of all canvases, and the commits that follow it."""

    def collect(self) -> tuple[list[FilledCanvas], list[LiveCall]]:
        """Canvases that are known to be filled, each once, and calls whose rows nobody reads any more."""

    def clear(self) -> None:
        """Forget everything that has entered."""
