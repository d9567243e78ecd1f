"""`aftercall rescore`: another rule over the features that are stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analytics.lead_score import LEAD_RULE
from db.session import Database
from tests.integration.workers.samples import Aftercall, add_scored_call, rows
from workers.cli import rescore

pytestmark = pytest.mark.usefixtures("no_calls")

SCORES = "SELECT external_id, lead_score, lead_tier, lead_rule_version FROM call_scores ORDER BY 1"


@pytest.fixture
def stricter_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second version, by which no lead of the samples is hot."""
    monkeypatch.setattr(rescore, "LEAD_RULE", replace(LEAD_RULE, version=2, hot_from=98))
    monkeypatch.setattr(rescore, "_BATCH", 2)


@pytest.mark.usefixtures("stricter_rule")
def test_a_changed_rule_scores_what_is_stored(aftercall: Aftercall, database: Database) -> None:
    for name in ("CA1", "CA2", "CA3"):
        add_scored_call(database, name)
    assert aftercall("rescore").stdout == "3 leads scored by rule 2.\n"
    assert rows(database, SCORES) == [(name, 97, "warm", 2) for name in ("CA1", "CA2", "CA3")]
    assert rows(database, "SELECT count(*) FROM lead_records WHERE rule_version = 1") == [(3,)]
    assert aftercall("rescore").stdout == "Every lead is scored by rule 2 already.\n"
    intent = " ".join(aftercall("show", "CA1").stdout.split()).partition(
        "Lead score: 97 of 100, warm"
    )[2]
    assert "intent book 75 % 0:02 “I would like to book a cut for Friday.”" in intent


def test_without_another_rule_nothing_is_stored(aftercall: Aftercall, database: Database) -> None:
    add_scored_call(database)
    assert "already" in aftercall("rescore").stdout
    assert rows(database, "SELECT count(*) FROM lead_records") == [(1,)]
