"""Every measure of the analysis model on planted mistakes, counted by hand."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from analytics.evaluation.calls import EvaluatedCall, fields_of, measure_calls, slot_kind
from analytics.evaluation.intervals import Measure
from analytics.lead_score import LEAD_RULE
from analytics.records import LeadFeatures

TURNS = (
    "Willow Salon, hello.",
    "Hi, this is Dana Whitfield, I'd like a haircut, it's urgent.",
    "That is $45. Tuesday at 3 pm?",
    "Yes please.",
)
TRUTH: Mapping[str, Mapping[str, Any]] = {
    "summary": {
        "summary": "Dana Whitfield wanted to book a haircut. The agent booked it for Tuesday at 3 pm.",
        "outcome": "booked",
        "outcome_turn": 3,
        "caller_name": "Dana Whitfield",
        "service": "haircut",
        "appointment": "Tuesday at 3 pm",
        "price": "$45",
        "next_step": "Send a confirmation.",
    },
    "sentiment": {"overall": "neutral", "overall_turn": None, "start": "neutral", "end": "neutral"},
    "lead_score": {
        "intent": "book",
        "intent_turn": 2,
        "urgency": "high",
        "urgency_turn": 2,
        "budget_fit": "unknown",
        "budget_fit_turn": None,
        "authority": "unknown",
        "authority_turn": None,
        "timeline": "unknown",
        "timeline_turn": None,
        "commitment": "committed",
        "commitment_turn": 4,
        "objection": "none",
        "objection_turn": None,
    },
}


def call(
    changes: Mapping[str, Mapping[str, Any] | None] | None = None, **kwargs: Any
) -> EvaluatedCall:
    """A call whose records are found as they are, but for the changed fields; None drops a record."""
    found: dict[str, Mapping[str, Any] | None] = dict(TRUTH)
    for scorecard, change in (changes or {}).items():
        found[scorecard] = None if change is None else {**TRUTH[scorecard], **change}
    return EvaluatedCall(TRUTH, found, TURNS, **kwargs)


def value(measures: Mapping[str, Measure], name: str, num_calls: int) -> float:
    return float(measures[name].statistic(np.ones((1, num_calls)))[0])


def test_slot_kinds_cover_the_records():
    assert fields_of("text") == (("summary", "summary"), ("summary", "next_step"))
    assert [name for _, name in fields_of("entity")] == [
        "caller_name",
        "service",
        "appointment",
        "price",
    ]
    assert len(fields_of("enum")) == 1 + 3 + 7
    assert slot_kind("sentiment", "overall_turn") == "evidence"
    with pytest.raises(KeyError):
        slot_kind("sentiment", "score")


def test_perfect_records():
    measures = measure_calls([call(), call()], services=["a haircut"])
    for name, measure in measures.items():
        got = float(measure.statistic(np.ones((1, 2)))[0])
        if "unsupported" in name or name == "lead.mae":
            assert got == 0.0, name
        elif name != "lead.rank_correlation" and measure.count:  # two equal scores have no order
            assert got == 1.0, name
    # name, haircut, Tuesday, 3; the price is not told
    assert measures["unsupported_claims"].count == 2 * 4


def test_enums():
    calls = [call(), call({"lead_score": {"urgency": "low"}, "summary": {"outcome": "declined"}})]
    measures = measure_calls(calls)
    assert value(measures, "accuracy.lead_score.urgency", 2) == 0.5
    assert value(measures, "accuracy.lead_score.intent", 2) == 1.0
    # high: 2 * 1 / (2 + 1), low: 0
    assert value(measures, "macro_f1.lead_score.urgency", 2) == pytest.approx((2 / 3) / 2)
    assert value(measures, "accuracy.enums", 2) == pytest.approx(20 / 22)


def test_lead_score_follows_the_rule():
    calls = [call(), call({"lead_score": {"commitment": "refused"}})]
    measures = measure_calls(calls)
    right, wrong = (
        LEAD_RULE.score(LeadFeatures.model_validate(c.found["lead_score"])) for c in calls
    )
    assert right.score is not None
    assert wrong.score is not None
    assert value(measures, "lead.mae", 2) == pytest.approx((right.score - wrong.score) / 2)
    assert value(measures, "lead.tier_accuracy", 2) == 0.5


def test_a_missing_score_counts_as_zero_and_two_missing_ones_not_at_all():
    no_lead = {"lead_score": {"intent": "not_applicable"}}
    score = LEAD_RULE.score(LeadFeatures.model_validate(TRUTH["lead_score"])).score
    assert value(measure_calls([call(no_lead)]), "lead.mae", 1) == score
    neither = EvaluatedCall(call(no_lead).found, call(no_lead).found, TURNS)  # type: ignore[arg-type]
    measures = measure_calls([neither, call()])
    assert measures["lead.mae"].count == 1
    assert value(measures, "lead.tier_accuracy", 2) == 1.0


def test_evidence():
    calls = [
        call({"lead_score": {"intent_turn": 3, "urgency_turn": None, "budget_fit_turn": 1}}),
        call(supporting_turns={("lead_score", "intent_turn"): frozenset({1, 2})}),
    ]
    measures = measure_calls(calls)
    assert value(measures, "evidence_precision.lead_score.intent_turn", 2) == 0.5
    assert value(measures, "evidence_recall.lead_score.urgency_turn", 2) == 0.5
    assert value(measures, "evidence_precision.lead_score.urgency_turn", 2) == 1.0
    assert value(measures, "evidence_precision.lead_score.budget_fit_turn", 2) == 0.0
    # call 1 cites outcome, intent (wrong), budget (wrong), commitment; call 2 outcome, intent, urgency, commitment
    assert value(measures, "evidence_precision", 2) == pytest.approx((2 + 4) / (4 + 4))
    assert value(measures, "evidence_recall", 2) == pytest.approx((2 + 4) / (4 + 4))


def test_a_turn_that_the_recogniser_lost_supports_nothing():
    lost = call(supporting_turns={("lead_score", "intent_turn"): frozenset()})
    assert value(measure_calls([lost]), "evidence_precision.lead_score.intent_turn", 1) == 0.0


def test_entities():
    calls = [
        call({"summary": {"caller_name": "dana whitfield", "price": "$4", "service": None}}),
        call({"summary": {"summary": "Dana Whitfield booked a haircut for Tuesday."}}),
    ]
    measures = measure_calls(calls)
    assert value(measures, "entity_recall.name", 2) == 1.0
    assert value(measures, "entity_recall.price", 2) == 0.5
    assert value(measures, "entity_recall.service", 2) == 0.5
    assert value(measures, "entity_recall", 2) == pytest.approx(6 / 8)
    assert value(measures, "entity_precision.service", 2) == 1.0
    assert value(measures, "entity_precision.price", 2) == 0.5
    assert value(measures, "summary_recall.appointment", 2) == 0.5
    assert measures["summary_recall.price"].count == 0  # the expected summary does not tell it


def test_unsupported_claims():
    invented = "Dana Wakefield wanted to book a perm. The agent booked it for Tuesday at 3 pm."
    calls = [call({"summary": {"summary": invented, "service": "perm"}}), call()]
    measures = measure_calls(calls, services=["a haircut"])
    # the name and the perm, of name, perm, Tuesday, 3 in one call and name, haircut, Tuesday, 3 in the other
    assert value(measures, "unsupported_claims", 2) == pytest.approx(2 / 8)
    assert value(measures, "summaries_with_unsupported_claims", 2) == 0.5
    excused = call(
        {"summary": {"summary": invented, "service": "perm"}}, facts=("Dana Wakefield", "a perm")
    )
    assert value(measure_calls([excused]), "unsupported_claims", 1) == 0.0


def test_a_record_that_does_not_fit_is_wrong_in_every_field():
    calls = [call({"summary": {"outcome": "nonsense"}, "lead_score": None})]
    measures = measure_calls(calls)
    assert value(measures, "valid.summary", 1) == 0.0
    assert value(measures, "valid.lead_score", 1) == 0.0
    assert value(measures, "valid.sentiment", 1) == 1.0
    assert value(measures, "entity_recall.name", 1) == 0.0
    assert value(measures, "rouge_l.summary", 1) == 0.0
    assert value(measures, "accuracy.enums", 1) == pytest.approx(3 / 11)
    assert value(measures, "lead.tier_accuracy", 1) == 0.0
