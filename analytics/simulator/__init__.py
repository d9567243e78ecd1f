"""Simulated calls with known truth: the training and evaluation data of the analysis model.

`simulate` streams calls for ever. A call is a function of (seed, index) alone, so that any shard of the stream can be
made anywhere, and the same seed gives the same calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from random import Random
from typing import Any

from analytics.simulator.affinity import ContextualPatterns
from analytics.simulator.dialogue import SpokenTurn, speak
from analytics.simulator.entities import load_verticals
from analytics.simulator.facts import Facts
from analytics.simulator.labels import Records, label
from analytics.simulator.noise import add_noise
from analytics.simulator.patterns import Bank, BankError, Split, load_bank
from analytics.simulator.sampling import NameSplit, sample_facts

__all__ = ["Bank", "BankError", "NameSplit", "SimulatedCall", "load_bank", "simulate"]


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """One call. `turns` are (role, text) as transcribed, with noise; `spoken` is what was said, for synthesis."""

    id: str
    turns: tuple[tuple[str, str], ...]
    spoken: tuple[SpokenTurn, ...]
    records: Records
    facts: Facts

    def to_json(self) -> dict[str, Any]:
        """The call as a training example: plain dicts, lists and strings."""
        return {
            "id": self.id,
            "turns": [{"role": role, "text": text} for role, text in self.turns],
            "records": self.records,
            "facts": asdict(self.facts),
        }


def simulate(
    seed: int,
    *,
    split: Split = "train",
    names: NameSplit = "train",
    noise: float = 0.0,
    bank: Bank | None = None,
    mono: float = 0.0,
    patterns_per_act: int | None = None,
    shard: int = 0,
    num_shards: int = 1,
) -> Iterator[SimulatedCall]:
    """Streams calls without end.

    `split` and `names` choose the side of the pattern and of the name split. `noise` is the share of words misheard.
    `mono` is the share of calls on one channel, where all roles are `unknown`.
    `patterns_per_act` limits the training patterns of each act, for learning curves. Shard `shard` of `num_shards`
    yields every num_shards-th call of the same stream. Raises BankError when the bank is incomplete, ValueError on
    bad arguments.
    """
    if not 0 <= shard < num_shards:
        raise ValueError(f"shard {shard} of {num_shards}")
    if seed < 0:
        raise ValueError(f"a seed is not negative: {seed}")
    source = bank if bank is not None else load_bank()
    patterns = ContextualPatterns(source.patterns(split, patterns_per_act))
    verticals = load_verticals()
    random = Random()
    for index in count(shard, num_shards):
        random.seed(seed << 40 | index)
        facts = sample_facts(random, names=names)
        fitting = patterns.for_call(
            facts.vertical, facts.line, verticals[facts.vertical].line_names, facts.kind
        )
        spoken = speak(facts, fitting, random)
        records = label(spoken, facts)
        is_mono = random.random() < mono
        heard = add_noise([turn.text for turn in spoken], noise, random)
        roles = ["unknown" if is_mono else turn.role for turn in spoken]
        turns = tuple(zip(roles, heard, strict=True))
        yield SimulatedCall(f"sim-{split}-{seed}-{index}", turns, spoken, records, facts)
