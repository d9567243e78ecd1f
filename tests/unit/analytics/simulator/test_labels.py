"""The labelling rules, each on a call made by hand."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from analytics.simulator.dialogue import SpokenTurn, Utterance
from analytics.simulator.facts import Facts
from analytics.simulator.labels import label
from analytics.simulator.sampling import sample_facts


@pytest.fixture(scope="module")
def facts() -> Facts:
    random = Random(5)
    while True:
        facts = sample_facts(random, names="train")
        if facts.intent == "book" and facts.outcome == "booked" and facts.issue is None:
            return facts


def said(act: str, slots: str = "", when: str | None = None) -> Utterance:
    return Utterance(act, "-", "-", frozenset(slots.split()), when)


def turns(*acts_of_turns: str) -> list[SpokenTurn]:
    """Each argument is one turn: its acts, separated by spaces."""
    spoken = []
    for acts in acts_of_turns:
        utterances = tuple(said(act) for act in acts.split())
        role: Any = acts.partition(".")[0]
        spoken.append(SpokenTurn(role, "-", utterances))
    return spoken


BOOK = "caller.request.book.salon"


def test_nobody_spoke(facts: Facts) -> None:
    records = label([], facts)
    assert records["summary"]["outcome"] == "not_applicable"
    assert records["lead_score"]["intent"] == "not_applicable"
    assert records["lead_score"]["objection"] == "not_applicable"
    assert records["sentiment"]["start"] == "not_applicable"
    assert records["summary"]["summary"] == "Nobody spoke on this call."


def test_only_the_agent_spoke(facts: Facts) -> None:
    records = label(turns("agent.greet"), facts)
    assert records["sentiment"]["overall"] == "not_applicable"
    assert records["summary"]["summary"] == "The caller did not say anything."


def test_a_greeting_tells_nothing(facts: Facts) -> None:
    records = label(turns("agent.greet", "caller.opener"), facts)
    assert records["lead_score"]["intent"] == "unknown"
    assert records["lead_score"]["objection"] == "unknown"
    assert records["sentiment"]["overall"] == "unknown"
    assert records["summary"]["outcome"] == "unresolved"
    assert records["summary"]["outcome_turn"] is None


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        (
            ("caller.mood.positive.start", "caller.mood.negative.end"),
            ("positive", "negative", "mixed"),
        ),
        (("caller.mood.negative.start",), ("negative", "negative", "negative")),
        (
            ("caller.mood.negative.start", "caller.mood.neutral.end"),
            ("negative", "neutral", "negative"),
        ),
        (("caller.mood.positive.mid",), ("neutral", "positive", "positive")),
        (("caller.tool_annoyed", "caller.mood.positive.end"), ("neutral", "positive", "mixed")),
        (("caller.mood.neutral.end",), ("neutral", "neutral", "neutral")),
        (("caller.no_more",), ("neutral", "neutral", "neutral")),
    ],
)
def test_mood(facts: Facts, acts: tuple[str, ...], expected: tuple[str, str, str]) -> None:
    sentiment = label(turns("agent.greet", BOOK, *acts), facts)["sentiment"]
    assert (sentiment["start"], sentiment["end"], sentiment["overall"]) == expected


def test_a_complaint_starts_badly_and_is_the_evidence(facts: Facts) -> None:
    spoken = turns("agent.greet", "caller.request.complaint.salon", "caller.mood.neutral.end")
    sentiment = label(spoken, facts)["sentiment"]
    assert sentiment == {
        "overall": "negative",
        "overall_turn": 2,
        "start": "negative",
        "end": "neutral",
    }


def test_the_last_word_on_a_feature_counts(facts: Facts) -> None:
    spoken = turns(
        BOOK, "caller.commitment.considering", "agent.ack", "caller.commitment.committed"
    )
    lead = label(spoken, facts)["lead_score"]
    assert (lead["commitment"], lead["commitment_turn"]) == ("committed", 4)


def test_not_knowing_is_unknown_without_evidence(facts: Facts) -> None:
    spoken = turns(BOOK, "caller.timeline.unknown caller.budget.unknown")
    lead = label(spoken, facts)["lead_score"]
    assert (lead["timeline"], lead["timeline_turn"]) == ("unknown", None)
    assert (lead["budget_fit"], lead["budget_fit_turn"]) == ("unknown", None)


def test_an_emergency_is_urgent_by_itself(facts: Facts) -> None:
    lead = label(turns("agent.greet", "caller.request.emergency.clinic"), facts)["lead_score"]
    assert (lead["urgency"], lead["urgency_turn"]) == ("high", 2)


def test_a_wished_time_commits_only_when_it_is_booked(facts: Facts) -> None:
    asked = turns(BOOK, "agent.ask_day", "caller.ask_for_slot")
    assert label(asked, facts)["lead_score"]["commitment"] == "unknown"
    booked = [*asked, *turns("agent.close.booked")]
    lead = label(booked, facts)["lead_score"]
    assert (lead["commitment"], lead["commitment_turn"]) == ("committed", 3)


def test_over_budget_objects_to_the_price_unless_something_else_is_objected_to(
    facts: Facts,
) -> None:
    over = turns(BOOK, "agent.quote_price", "caller.budget.over")
    lead = label(over, facts)["lead_score"]
    assert (lead["budget_fit"], lead["objection"], lead["objection_turn"]) == ("over", "price", 3)
    doubted = [*over, *turns("agent.ack", "caller.objection.trust")]
    assert label(doubted, facts)["lead_score"]["objection"] == "trust"


def test_a_solicitation_is_no_lead(facts: Facts) -> None:
    spoken = turns("agent.greet", "caller.request.solicitation", "agent.close.not_applicable")
    records = label(spoken, facts)
    assert records["lead_score"]["intent"] == "solicitation"
    assert records["lead_score"]["intent_turn"] == 2
    assert records["lead_score"]["urgency"] == "not_applicable"
    assert records["summary"]["outcome_turn"] is None
    assert records["sentiment"]["overall"] == "neutral"


def test_a_wrong_number_has_a_mood_but_no_intent(facts: Facts) -> None:
    spoken = turns(
        "agent.greet",
        "caller.request.wrong_number",
        "agent.close.not_applicable",
        "caller.mood.positive.end",
    )
    records = label(spoken, facts)
    assert records["lead_score"]["intent"] == "not_applicable"
    assert records["lead_score"]["intent_turn"] is None
    assert records["sentiment"]["overall"] == "positive"


def test_entities_are_labelled_when_they_were_said(facts: Facts) -> None:
    spoken = [
        SpokenTurn("caller", "-", (said(BOOK, "a_service"), said("caller.give_name", "caller"))),
        SpokenTurn("agent", "-", (said("agent.quote_price", "price"),)),
        SpokenTurn("agent", "-", (said("agent.offer_slot", "when", facts.appointment.when),)),
        SpokenTurn("caller", "-", (said("caller.accept_slot"),)),
    ]
    summary = label(spoken, facts)["summary"]
    assert summary["caller_name"] == facts.caller
    assert summary["service"] == facts.service.name
    assert summary["price"] == facts.price
    assert (
        summary["appointment"] is None
    )  # offered and accepted, but the call ended before it was booked
    booked = [*spoken, SpokenTurn("agent", "-", (said("agent.close.booked"),))]
    assert label(booked, facts)["summary"]["appointment"] == facts.appointment.label


def test_a_budget_is_no_price(facts: Facts) -> None:
    spoken = [
        SpokenTurn("caller", "-", (said(BOOK),)),
        SpokenTurn("caller", "-", (said("caller.budget.fits", "price budget"),)),
    ]
    assert label(spoken, facts)["summary"]["price"] is None


def test_a_question_is_summed_up_by_its_topic(facts: Facts) -> None:
    request = said("caller.request.question", "topic")
    records = label([SpokenTurn("caller", "-", (request,))], facts)
    assert f"asked about {facts.topic}" in records["summary"]["summary"]
    assert records["summary"]["service"] is None


def test_a_service_in_the_callers_own_words(facts: Facts) -> None:
    request = Utterance(BOOK, "-", "I need my bangs fixed.", frozenset(), None, "bangs")
    summary = label([SpokenTurn("caller", "-", (request,))], facts)["summary"]
    assert summary["service"] == "bangs"
    assert "(bangs)" in summary["summary"]
