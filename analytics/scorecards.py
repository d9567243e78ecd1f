"""Scorecards: named, versioned instructions with the record model that the answer must fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analytics.records import LeadFeatures, Record, Sentiment, Summary


@dataclass(frozen=True, slots=True)
class Scorecard:
    """What to read off a call. A change of `instructions` or `record` is a new `version`.

    `instructions` is one short line: it is part of every canvas, and the embedded checkpoint knows exactly these words.
    """

    name: str
    version: int
    instructions: str
    record: type[Record]

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the record, as the diffusion engine compiles it."""
        return self.record.model_json_schema()


SUMMARY = Scorecard(
    name="summary",
    version=1,
    instructions="Summarise the call: what happened, the facts agreed on, what comes next.",
    record=Summary,
)
SENTIMENT = Scorecard(
    name="sentiment",
    version=1,
    instructions="Rate the caller's mood: over the whole call, at its start, at its end.",
    record=Sentiment,
)
LEAD_SCORE = Scorecard(
    name="lead_score",
    version=1,
    instructions="Rate the caller as a lead, each answer with the turn that supports it.",
    record=LeadFeatures,
)
BUILT_IN = (SUMMARY, SENTIMENT, LEAD_SCORE)
"""The scorecards of a default install, in the order in which records are shown."""


def built_in(name: str) -> Scorecard:
    """The built-in scorecard of this name. Raises KeyError when there is none."""
    for scorecard in BUILT_IN:
        if scorecard.name == name:
            return scorecard
    raise KeyError(
        f"no built-in scorecard {name!r}; there are {', '.join(s.name for s in BUILT_IN)}"
    )
