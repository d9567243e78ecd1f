"""Constrained against plain decoding, field by field, on a small untrained checkpoint."""

import json
from pathlib import Path

import pytest

from workers.evaluation.constraints import UNREADABLE, _is_right, main


def test_the_command_compares_every_field(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "compared.json"
    main(
        [
            str(checkpoint),
            *("--calls", "3", "--set", "known", "--threshold", "1e-6"),
            *("--device", "cpu", "--out", str(out)),
        ]
    )
    (compared,) = json.loads(out.read_text("utf-8"))["sets"]
    assert (
        compared["valid"]["lead_score"]["value"] == 0.0
    )  # untrained slots say nothing that can be read
    rows = {row["name"]: row for row in compared["rows"]}
    assert "summary.caller_name" in rows
    for row in rows.values():
        difference = row["constrained"]["value"] - row["plain"]["value"]
        assert row["difference"]["value"] == pytest.approx(difference)
        assert row["difference"]["low"] <= row["difference"]["high"]
    assert rows["all enum fields"]["plain"]["value"] == 0.0
    assert "| lead_score.intent_turn |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "expected", "found", "is_right"),
    [
        ("intent", "book", "book", True),
        ("intent", "book", UNREADABLE, False),
        ("intent_turn", None, None, True),
        ("intent_turn", None, 3, False),
        ("price", "$1,200.00", "1200 dollars", True),
        ("price", None, UNREADABLE, False),
        ("summary", "Anna booked.", "anna booked", True),
    ],
)
def test_what_counts_as_right(name, expected, found, is_right):
    assert _is_right(name, expected, found) is is_right
