"""What is in the engine's hands: calls that wait, and live calls with their canvases."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.diffusion.memory import Run
from inference.diffusion.prompt import Prompt
from inference.diffusion.request import CallRequest
from inference.diffusion.scaffold import Scaffold
from inference.diffusion.scheduler import Demand


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """A call before its admission."""

    request: CallRequest
    prompt: Prompt
    scaffolds: tuple[Scaffold, ...]

    @property
    def demand(self) -> Demand:
        """What of the engine's room it needs."""
        lengths = [scaffold.num_tokens for scaffold in self.scaffolds]
        return Demand(len(self.prompt.token_ids), sum(lengths), len(lengths))


@dataclass(slots=True, eq=False)
class LiveCall:
    """A call whose prompt is in the cache, with one branch per record."""

    call_id: str
    prompt: Prompt
    run: Run
    branches: list[Branch] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        """All its cache rows."""
        return [self.run, *(branch.run for branch in self.branches)]


@dataclass(slots=True, eq=False)
class Branch:
    """One canvas that is being denoised."""

    call: LiveCall
    scaffold: Scaffold
    run: Run
