from __future__ import annotations

from typing import Any, get_args

import pytest

from analytics.lead_score import FEATURES, LEAD_RULE, MAX_REASONS
from analytics.records import LeadFeatures

BEST: dict[str, Any] = {
    "intent": "book",
    "urgency": "high",
    "budget_fit": "fits",
    "authority": "self",
    "timeline": "today",
    "commitment": "committed",
    "objection": "none",
}


def features(**changes: str) -> LeadFeatures:
    turns = {f"{name}_turn": None for name in FEATURES}
    return LeadFeatures(**(BEST | turns | changes))


def test_best_values_give_the_full_score():
    scored = LEAD_RULE.score(features())
    assert (scored.score, scored.tier) == (100, "hot")
    assert scored.reasons[0] == "wants to book"
    assert len(scored.reasons) == MAX_REASONS


def test_every_value_of_every_feature_has_a_weight():
    for name in FEATURES:
        values = set(get_args(LeadFeatures.model_fields[name].annotation))
        if name == "intent":
            values.discard("not_applicable")
        assert set(LEAD_RULE.weights[name]) == values, name


def test_a_call_without_a_lead_has_no_score():
    scored = LEAD_RULE.score(features(intent="not_applicable"))
    assert (scored.score, scored.tier, scored.reasons) == (None, "none", ())


@pytest.mark.parametrize(
    ("changes", "score", "tier"),
    [
        ({"commitment": "refused"}, 25, "cold"),
        ({"intent": "solicitation"}, 0, "cold"),
        ({"budget_fit": "over"}, 60, "warm"),
        ({"commitment": "considering", "objection": "competitor"}, 82, "hot"),
        ({"intent": "unknown", "commitment": "unknown", "urgency": "unknown"}, 58, "warm"),
    ],
)
def test_points_and_caps(changes: dict[str, str], score: int, tier: str):
    scored = LEAD_RULE.score(features(**changes))
    assert (scored.score, scored.tier) == (score, tier)


def test_a_cap_is_the_first_reason():
    assert LEAD_RULE.score(features(commitment="refused")).reasons[0] == "said no"


def test_the_score_never_leaves_its_range():
    worst = features(
        intent="message",
        urgency="low",
        budget_fit="over",
        authority="other",
        timeline="later",
        commitment="refused",
        objection="competitor",
    )
    scored = LEAD_RULE.score(worst)
    assert scored.score == 9
    assert scored.tier == "cold"


def test_tiers_begin_at_their_thresholds():
    assert [LEAD_RULE.tier(score) for score in (39, 40, 69, 70)] == ["cold", "warm", "warm", "hot"]
