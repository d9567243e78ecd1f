from __future__ import annotations

import pytest

from analytics.scorecards import BUILT_IN, built_in


def test_built_in_scorecards_are_found_by_name():
    assert [built_in(card.name) for card in BUILT_IN] == list(BUILT_IN)
    assert [card.name for card in BUILT_IN] == ["summary", "sentiment", "lead_score"]


def test_an_unknown_scorecard_names_those_there_are():
    with pytest.raises(KeyError, match="sentiment"):
        built_in("mood")


def test_schemas_mark_evidence_turns():
    properties = built_in("lead_score").schema["properties"]
    marked = [name for name, field in properties.items() if "x-evidence" in str(field)]
    assert len(marked) == 7
    assert all(name.endswith("_turn") for name in marked)
