"""What a caller asks of the engine: which records to fill in."""

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
