from analytics.evidence import locate
from analytics.transcript import Transcript, Turn

TRANSCRIPT = Transcript(
    (
        Turn(1, "agent", 0, 900, "Hello", 0.9),
        Turn(2, "caller", 1_000, 2_500, "I need a plumber now", 0.8),
    ),
    duration_ms=3_000,
    language="en",
)


def test_a_turn_becomes_its_times():
    (evidence,) = locate({"urgency": "high", "urgency_turn": 2}, TRANSCRIPT)
    assert (evidence.field, evidence.status) == ("urgency", "supported")
    assert (evidence.turn_number, evidence.start_ms, evidence.end_ms) == (2, 1_000, 2_500)


def test_no_turn_and_a_turn_that_does_not_exist_are_told_apart():
    statuses = {
        e.field: e.status for e in locate({"a_turn": None, "b_turn": 3, "c_turn": 0}, TRANSCRIPT)
    }
    assert statuses == {"a": "no_turn", "b": "unknown_turn", "c": "unknown_turn"}


def test_fields_without_evidence_are_left_alone():
    assert locate({"summary": "A call.", "turn": 2}, TRANSCRIPT) == []
