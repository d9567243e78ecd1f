"""Reports as tables and as JSON."""

import io
import json

from rich.console import Console

from tests.unit.workers.evaluation.planted import planted
from workers.evaluation.report import EvaluationReport
from workers.evaluation.steps import quality_against_steps
from workers.evaluation.tables import tables
from workers.evaluation.text import decode_set, report_on
from workers.evaluation.text_sets import TEXT_SETS

CALLS = TEXT_SETS[0].calls(10)


def report() -> EvaluationReport:
    decode = planted(CALLS, {0: {"lead_score": {"intent": "unknown"}}})
    return EvaluationReport(
        seed=7,
        models={"dllm": {"name": "tiny", "fingerprint": "abc"}},
        settings={"threshold": 0.9},
        text=[report_on("known", "known wording", decode_set(CALLS, decode))],
        steps=quality_against_steps(CALLS, lambda _: decode, thresholds=(0.9,)),
    )


def test_json_holds_every_measure_with_interval_and_provenance():
    found = json.loads(json.dumps(report().to_json()))
    assert found["seed"] == 7
    assert found["models"]["dllm"]["fingerprint"] == "abc"
    intent = found["text"][0]["measures"]["accuracy.lead_score.intent"]
    assert intent["value"] == 0.9
    assert intent["count"] == 10
    assert intent["low"] < 0.9 < intent["high"]
    assert found["text"][0]["seconds_per_call"] >= 0
    assert [row["threshold"] for row in found["steps"]] == [0.9, None]
    assert found["steps"][0]["against_one_token_per_step"]["accuracy.enums"]["value"] == 0.0
    assert found["speech"] == []


def test_tables_show_percent_with_half_the_interval():
    made = report()
    out = io.StringIO()
    console = Console(file=out, width=100)
    for table in tables(made):
        console.print(table)
    intent = made.text[0].estimates["accuracy.lead_score.intent"]
    assert intent.low is not None
    assert intent.high is not None
    shown = out.getvalue()
    assert f"90.0 ±{50 * (intent.high - intent.low):.1f}" in shown
    assert "one token" in shown
    assert len(tables(made)) == 2  # nothing is shown of what was not measured
