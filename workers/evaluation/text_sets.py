"""The text sets: simulated calls that training never saw, each set a step harder than the one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cache
from itertools import islice
from typing import Final

from analytics.scorecards import BUILT_IN
from analytics.simulator import NameSplit, SimulatedCall, simulate
from analytics.simulator.entities import load_verticals
from analytics.simulator.patterns import Split
from analytics.transcript import Turn
from inference.diffusion.request import BranchSpec, CallRequest

# A call is a function of seed and index, so a seed that training used would give back training calls.
EVALUATION_SEED: Final = 700_001


@dataclass(frozen=True, slots=True)
class TextSet:
    """Which side of the pattern split and of the name split a set's calls are made of, and how badly they are heard."""

    name: str
    description: str
    split: Split = "train"
    names: NameSplit = "listed"
    noise: float = 0.0

    def calls(self, num_calls: int, seed: int = EVALUATION_SEED) -> list[SimulatedCall]:
        """The set's first calls, without those in which nobody speaks: the service never shows them to the model."""
        stream = simulate(seed, split=self.split, names=self.names, noise=self.noise)
        return list(islice((call for call in stream if call.turns), num_calls))


TEXT_SETS: Final = (
    TextSet("known", "known wording, new facts"),
    TextSet("new_names", "known wording, unseen names", names="heldout"),
    TextSet("noise_5", "… and 5 % of words misheard", names="heldout", noise=0.05),
    TextSet("noise_10", "… and 10 % of words misheard", names="heldout", noise=0.10),
    TextSet("noise_20", "… and 20 % of words misheard", names="heldout", noise=0.20),
    TextSet("heldout", "unseen wording, unseen names", split="heldout", names="heldout"),
    TextSet(
        "heldout_10",
        "… and 10 % of words misheard",
        split="heldout",
        names="heldout",
        noise=0.10,
    ),
)


def built_in_branches() -> tuple[BranchSpec, ...]:
    """The built-in scorecards as the engine takes them."""
    return tuple(BranchSpec(card.name, card.instructions, card.schema) for card in BUILT_IN)


def request_of(call: SimulatedCall) -> CallRequest:
    """The call's transcript, with all built-in records to fill in."""
    turns = tuple(
        Turn(number, spoken.role, 0, 0, text, 1.0).render()
        for number, (spoken, (_, text)) in enumerate(
            zip(call.spoken, call.turns, strict=True), start=1
        )
    )
    return CallRequest(call.id, turns, built_in_branches())


def fact_texts(call: SimulatedCall) -> tuple[str, ...]:
    """Every text among the facts of a call, said or not."""
    return tuple(_texts(astuple(call.facts)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _texts(item)


@cache
def known_services() -> tuple[str, ...]:
    """Every service and every problem that simulated calls are about."""
    names: dict[str, None] = {}
    for vertical in load_verticals().values():
        for line in vertical.lines:
            names |= dict.fromkeys(service.name for service in line.services)
            names |= dict.fromkeys(issue.name for issue in (*line.issues, *line.urgent_issues))
    return tuple(names)
