"""Text evaluation from simulated calls to reports, with planted answers instead of a model."""

import numpy as np
import pytest

from analytics.simulator.patterns import is_heldout, load_bank
from tests.unit.workers.evaluation.planted import planted
from workers.evaluation.steps import quality_against_steps
from workers.evaluation.text import Answer, SlotEffort, decode_set, measure_effort, report_on
from workers.evaluation.text_sets import TEXT_SETS, fact_texts, known_services, request_of

SETS = {text_set.name: text_set for text_set in TEXT_SETS}
CALLS = SETS["new_names"].calls(20)


def test_sets_are_the_same_every_time_and_somebody_speaks():
    assert SETS["heldout"].calls(5) == SETS["heldout"].calls(5)
    assert SETS["heldout"].calls(5) != SETS["heldout"].calls(5, seed=1)
    assert all(call.turns for text_set in TEXT_SETS for call in text_set.calls(50))


def test_heldout_calls_use_no_training_pattern():
    training = {
        pattern.text
        for patterns in load_bank().train.values()
        for pattern in patterns
        if not pattern.slots
    }
    said = {
        utterance.text
        for call in SETS["heldout"].calls(30)
        for turn in call.spoken
        for utterance in turn.utterances
    }
    assert not said & training


def test_names_are_held_out():
    names = {call.facts.caller.split()[0] for call in CALLS}
    assert all(map(is_heldout, names))


def test_noise_changes_turns_and_not_truth():
    noisy = SETS["noise_20"].calls(20)
    assert [call.records for call in noisy] == [call.records for call in CALLS]
    assert [call.turns for call in noisy] != [call.turns for call in CALLS]


def test_request_renders_numbered_turns_and_all_scorecards():
    call = CALLS[0]
    request = request_of(call)
    assert request.turns[0] == f"1 {call.turns[0][0]}: {call.turns[0][1]}"
    assert len(request.turns) == len(call.turns)
    assert [branch.name for branch in request.branches] == list(call.records)


def test_facts_hold_nested_texts():
    facts = fact_texts(CALLS[0])
    assert CALLS[0].facts.caller in facts
    assert CALLS[0].facts.service.name in facts
    assert CALLS[0].facts.service.name in known_services()


def test_planted_mistakes_show():
    mistakes = {
        0: {"lead_score": {"intent": "unknown"}},
        1: {"summary": None},
        2: {"sentiment": {"overall": "not a mood"}},
    }
    report = report_on("new_names", "…", decode_set(CALLS, planted(CALLS, mistakes)))
    values = {name: estimate.value for name, estimate in report.estimates.items()}
    assert report.num_calls == 20
    assert values["accuracy.lead_score.intent"] == pytest.approx(19 / 20)
    assert values["accuracy.summary.outcome"] == pytest.approx(19 / 20)
    assert values["valid.summary"] == pytest.approx(19 / 20)
    assert values["valid.sentiment"] == pytest.approx(19 / 20)
    assert values["accuracy.lead_score.urgency"] == 1.0
    # one intent, the outcome of one summary, three moods of one sentiment
    assert values["accuracy.enums"] == pytest.approx(1 - 5 / (20 * 11))
    assert values["unsupported_claims"] == 0.0


def test_a_record_that_never_comes_back_is_missing():
    def mute(requests):
        return (answer for answer in planted(CALLS)(requests) if answer.name != "sentiment")

    report = report_on("new_names", "…", decode_set(CALLS, mute))
    assert report.estimates["valid.sentiment"].value == 0.0
    assert report.estimates["valid.summary"].value == 1.0
    assert "effort.steps.sentiment" not in report.estimates


def test_effort_by_hand():
    quick = {
        "summary": Answer(
            "a", "summary", {}, 4, 60, {"/summary": SlotEffort(40, 4), "/outcome": SlotEffort(2, 1)}
        ),
        "sentiment": Answer("a", "sentiment", {}, 1, 6, {"/end": SlotEffort(3, 1)}),
    }
    slow = {"summary": Answer("b", "summary", {}, 10, 60, {"/next_step": SlotEffort(20, 10)})}
    measures = measure_effort([quick, slow])
    report = {name: float(m.statistic(np.ones((1, 2)))[0]) for name, m in measures.items()}
    assert report == pytest.approx(
        {
            "effort.steps_per_call": (4 + 10) / 2,
            "effort.steps.summary": (4 + 10) / 2,
            "effort.steps.sentiment": 1.0,
            "effort.tokens_per_forward": (60 + 6 + 60) / (4 + 1 + 10),
            "effort.tokens_per_forward.enum": (2 + 3) / (1 + 1),
            "effort.tokens_per_forward.text": (40 + 20) / (4 + 10),
        }
    )


def test_steps_are_compared_with_one_token_per_step_in_pairs():
    wrong = {0: {"lead_score": {"intent": "unknown"}}, 1: {"lead_score": {"urgency": "unknown"}}}

    def decoder_for(threshold):
        if threshold is None:
            return planted(CALLS, {0: wrong[0]}, num_steps=100)
        return planted(CALLS, wrong, num_steps=4)

    row, baseline = quality_against_steps(CALLS, decoder_for, thresholds=(0.9,))
    assert (row.threshold, baseline.threshold) == (0.9, None)
    assert baseline.differences == {}
    assert row.estimates["effort.steps_per_call"].value == 4
    assert baseline.estimates["effort.steps_per_call"].value == 100
    known_urgency = CALLS[1].records["lead_score"]["urgency"] != "unknown"
    assert row.differences["accuracy.enums"].value == pytest.approx(-known_urgency / (20 * 11))
    assert row.differences["entity_recall"].value == 0.0
