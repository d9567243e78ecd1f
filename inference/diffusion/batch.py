"""What is in the engine's hands: calls that wait, and live calls with their canvases."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.diffusion.memory import Run
from inference.diffusion.prompt import Prompt
from inference.diffusion.request import CallRequest
from inference.diffusion.scheduler import Demand
from inference.diffusion.structured.scaffold import Scaffold


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """A call before its admission. `shares_prompt`: its branches share the keys and values of one prompt."""

    request: CallRequest
    prompt: Prompt
    scaffolds: tuple[Scaffold, ...]
    shares_prompt: bool

    @property
    def demand(self) -> Demand:
        """What of the engine's room it needs."""
        lengths = [scaffold.num_tokens for scaffold in self.scaffolds]
        num_prompts = 1 if self.shares_prompt else len(lengths)
        return Demand(num_prompts * len(self.prompt.token_ids), sum(lengths), len(lengths))


@dataclass(slots=True, eq=False)
class LiveCall:
    """A call in the cache, with one branch per record. `run` holds the prompt that its branches share, if they do."""

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
    """One canvas that is being denoised. `own_prompt` lies in front of it in `run`, when the prompt is not shared."""

    call: LiveCall
    scaffold: Scaffold
    run: Run
    own_prompt: tuple[int, ...] = ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """What lies in `run` at first."""
        return self.own_prompt + self.scaffold.tokens

    @property
    def canvas(self) -> Run:
        """The rows of the canvas alone."""
        length = len(self.own_prompt)
        return Run(self.run.start + length, self.run.length - length)
