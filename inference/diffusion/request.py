"""What a caller asks of the engine, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class BranchSpec:
    """One record to fill in for a call: a scorecard's name, its instructions (a short line) and its JSON schema."""

    name: str
    instructions: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call's rendered turns (`"3 caller: …"`) and the records to fill in for it. `call_id` is the caller's own."""

    call_id: str
    turns: tuple[str, ...]
    branches: tuple[BranchSpec, ...]


@dataclass(frozen=True, slots=True)
class BranchResult:
    """One finished record.

    Attributes:
        value: the record as JSON values; it fits the branch's schema.
        confidence: JSON pointer of each slot → smallest probability among the tokens that say its value.
        commit_steps: JSON pointer of each slot → for each of its positions the step in which it was committed, from 1.
        num_steps: denoising steps from admission to the last commit.
        num_tokens: positions committed in slots, padding included.
        turns_kept: None when the whole transcript was in the prompt, else how many first and last turns were.
    """

    call_id: str
    name: str
    value: dict[str, Any]
    confidence: dict[str, float]
    commit_steps: dict[str, tuple[int, ...]]
    num_steps: int
    num_tokens: int
    turns_kept: tuple[int, int] | None
