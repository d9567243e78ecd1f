"""The transcript of a call: numbered turns with speaker, times and text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["agent", "caller", "unknown"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance. `number` counts from 1 in order of `start_ms`; times are ms from the recording's start."""

    number: int
    role: Role
    start_ms: int
    end_ms: int
    text: str
    confidence: float  # mean token probability as the recogniser reported it, 0 to 1

    def render(self) -> str:
        """The turn as the analysis model reads it: `3 caller: I'd like to book a cut.`"""
        return f"{self.number} {self.role}: {self.text}"


@dataclass(frozen=True, slots=True)
class Transcript:
    """All turns of a call, ordered by start. `duration_ms` is the recording's length, silence included."""

    turns: tuple[Turn, ...]
    duration_ms: int
    language: str

    @property
    def is_empty(self) -> bool:
        """True when nothing was said: a silent line, hold music, a dropped call."""
        return not any(turn.text.strip() for turn in self.turns)

    def render(self) -> tuple[str, ...]:
        """One line per turn, in order."""
        return tuple(turn.render() for turn in self.turns)

    def turn(self, number: int) -> Turn:
        """The turn with this number. Raises KeyError when the transcript has no such turn."""
        if not 1 <= number <= len(self.turns):
            raise KeyError(f"turn {number} of a transcript with {len(self.turns)} turns")
        return self.turns[number - 1]
