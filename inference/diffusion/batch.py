"""What is in the engine's hands: calls that wait, live calls, their canvases, and who was admitted with whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from inference.diffusion.constraint import ChoiceState, ConstraintBatch
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
        """Cache rows it needs."""
        return Demand(len(self.prompt.token_ids), sum(s.num_tokens for s in self.scaffolds))


@dataclass(slots=True)
class LiveCall:
    """A call whose prompt is in the cache."""

    call_id: str
    prompt: Prompt
    run: Run


@dataclass(slots=True)
class Branch:
    """One canvas that is being denoised."""

    call: LiveCall
    scaffold: Scaffold
    run: Run
    num_steps: int = 0


@dataclass(slots=True)
class Cohort:
    """Branches admitted together; they share a constraint, which is laid out once."""

    branches: list[Branch]
    constraint: ConstraintBatch
    state: ChoiceState
    places: Tensor  # [num_branches, longest canvas], `num_rows` beyond a canvas's end
    finished: set[int] = field(default_factory=set)

    @property
    def is_finished(self) -> bool:
        """Whether every branch is complete."""
        return len(self.finished) == len(self.branches)

    @property
    def calls(self) -> list[LiveCall]:
        """The calls of its branches."""
        return calls_of(self.branches)


def calls_of(branches: Iterable[Branch]) -> list[LiveCall]:
    """The calls that these branches belong to, each once."""
    return list({id(branch.call): branch.call for branch in branches}.values())
