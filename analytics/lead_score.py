"""The lead score: a versioned rule over the features that the model read off the call.

The model never writes the number. A team changes points, caps or tiers in `LEAD_RULE`, gives it a new version, and
scores every stored call again without a GPU (`aftercall rescore`), because the features and their evidence are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from analytics.records import LeadFeatures, Record

Tier = Literal["hot", "warm", "cold", "none"]

FEATURES = ("intent", "urgency", "budget_fit", "authority", "timeline", "commitment", "objection")
MAX_REASONS = 4  # a list that is read at a glance


class LeadScore(Record):
    """A scored lead. `score` is null and `tier` is `none` when the call is no sales conversation at all."""

    score: Annotated[int, Field(ge=0, le=100)] | None
    tier: Tier
    reasons: tuple[str, ...]
    rule_version: int


@dataclass(frozen=True, slots=True)
class Weight:
    """What one feature value is worth, in points, and how a reader is told; no `reason` means it is not worth telling.

    `cap` bounds the whole score: a caller who refused is no hot lead, however urgent the matter was.
    """

    points: int
    reason: str | None = None
    cap: int = 100


@dataclass(frozen=True, slots=True)
class LeadRule:
    """Points per feature value, and the smallest scores of the upper tiers."""

    version: int
    weights: Mapping[str, Mapping[str, Weight]]
    hot_from: int
    warm_from: int

    def score(self, features: LeadFeatures) -> LeadScore:
        """Score a call: the sum of its points within 0 to 100, no higher than the lowest cap that applies.

        Raises:
            KeyError: the rule lacks a value of a feature.
        """
        if features.intent == "not_applicable":
            return LeadScore(score=None, tier="none", reasons=(), rule_version=self.version)
        weights = [self.weights[name][getattr(features, name)] for name in FEATURES]
        total = sum(weight.points for weight in weights)
        score = max(0, min(total, *(weight.cap for weight in weights), 100))
        return LeadScore(
            score=score,
            tier=self.tier(score),
            reasons=_reasons(weights),
            rule_version=self.version,
        )

    def tier(self, score: int) -> Tier:
        """The tier of a score from 0 to 100."""
        if score >= self.hot_from:
            return "hot"
        return "warm" if score >= self.warm_from else "cold"


def _reasons(weights: list[Weight]) -> tuple[str, ...]:
    """What moved the score most, strongest first; caps move it most of all."""
    told = [weight for weight in weights if weight.reason is not None]
    told.sort(key=lambda weight: (weight.cap, -abs(weight.points)))
    return tuple(weight.reason for weight in told[:MAX_REASONS] if weight.reason is not None)


def _frozen(table: dict[str, dict[str, Weight]]) -> Mapping[str, Mapping[str, Weight]]:
    return MappingProxyType({name: MappingProxyType(values) for name, values in table.items()})


LEAD_RULE = LeadRule(
    version=1,
    hot_from=70,
    warm_from=40,
    # Best values add up to 100. What the call does not tell gets a third of the best: silence is no refusal.
    weights=_frozen(
        {
            "intent": {
                "book": Weight(30, "wants to book"),
                "reschedule": Weight(24, "wants another appointment"),
                "cancel": Weight(4, "wants to cancel", cap=30),
                "price": Weight(22, "asks for prices"),
                "question": Weight(14, "asks a question"),
                "complaint": Weight(4, "calls to complain", cap=35),
                "emergency": Weight(30, "has an emergency"),
                "message": Weight(10, "leaves a message"),
                "solicitation": Weight(0, "is selling something", cap=0),
                "unknown": Weight(10),
            },
            "urgency": {
                "high": Weight(14, "urgent"),
                "medium": Weight(9),
                "low": Weight(3, "in no hurry"),
                "unknown": Weight(5),
                "not_applicable": Weight(5),
            },
            "budget_fit": {
                "fits": Weight(12, "the price suits"),
                "stretch": Weight(7, "the price is a stretch"),
                "over": Weight(0, "too expensive", cap=60),
                "unknown": Weight(4),
                "not_applicable": Weight(4),
            },
            "authority": {
                "self": Weight(10, "decides alone"),
                "shared": Weight(6, "decides with someone else"),
                "other": Weight(2, "someone else decides"),
                "unknown": Weight(4),
                "not_applicable": Weight(4),
            },
            "timeline": {
                "today": Weight(14, "wants it today"),
                "week": Weight(11, "wants it this week"),
                "month": Weight(6, "wants it this month"),
                "later": Weight(2, "wants it later"),
                "unknown": Weight(5),
                "not_applicable": Weight(5),
            },
            "commitment": {
                "committed": Weight(20, "committed"),
                "considering": Weight(10, "still considering"),
                "refused": Weight(0, "said no", cap=25),
                "unknown": Weight(7),
                "not_applicable": Weight(7),
            },
            "objection": {
                "none": Weight(0),
                "price": Weight(-6, "objects to the price"),
                "timing": Weight(-5, "objects to the timing"),
                "trust": Weight(-7, "doubts the business"),
                "competitor": Weight(-8, "compares with a competitor"),
                "unknown": Weight(-2),
                "not_applicable": Weight(0),
            },
        }
    ),
)
"""The rule in force. A change is a new version."""
