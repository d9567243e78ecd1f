"""`aftercall eval` and `python -m workers.evaluation` on a small untrained checkpoint."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.unit.workers.evaluation.planted import planted
from workers.cli import evaluate
from workers.cli.errors import CommandGroup
from workers.evaluation import __main__ as bare
from workers.evaluation.complete import Plan
from workers.evaluation.report import EvaluationReport
from workers.evaluation.text import decode_set, report_on
from workers.evaluation.text_sets import EVALUATION_SEED, TEXT_SETS
from workers.settings import Settings

CALLS = TEXT_SETS[0].calls(5)
REPORT = EvaluationReport(
    seed=3,
    models={},
    settings={},
    text=[report_on("known", "…", decode_set(CALLS, planted(CALLS)))],
    left_out={"new_flite": "flite is not installed"},
)

app = typer.Typer(cls=CommandGroup)
app.command("eval")(evaluate.command)
app.command("other")(lambda: None)  # with one command alone Typer takes no command name
runner = CliRunner()


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that are carried out, each with the same report."""
    seen: list[Plan] = []

    def evaluated(plan: Plan, chosen: Settings, tell: object) -> EvaluationReport:
        seen.append(plan)
        return REPORT

    monkeypatch.setattr("workers.evaluation.complete.evaluate", evaluated)
    return seen


def test_without_options_everything_is_measured(plans: list[Plan]):
    result = runner.invoke(app, ["eval"])
    assert result.exit_code == 0, result.output
    parts = frozenset({"text", "steps", "speech", "end-to-end"})
    assert plans == [Plan(parts, calls=1000, steps_calls=100, audio_calls=40, seed=EVALUATION_SEED)]
    assert "all enum fields" in result.stdout
    assert "new_flite was left out: flite is not installed" in result.stderr


def test_json_goes_to_standard_output_and_to_the_file(plans: list[Plan], tmp_path: Path):
    file = tmp_path / "report.json"
    options = ["--part", "text", "--part", "speech", "--calls", "7", "--seed", "3", "--json"]
    result = runner.invoke(app, ["eval", *options, "--output", str(file)])
    assert plans[0].parts == {"text", "speech"}
    assert (plans[0].calls, plans[0].seed) == (7, 3)
    assert json.loads(result.stdout) == json.loads(file.read_text()) == REPORT.to_json()


def test_a_place_that_cannot_be_written_is_one_line(plans: list[Plan], tmp_path: Path):
    result = runner.invoke(app, ["eval", "--output", str(tmp_path / "none" / "report.json")])
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_a_missing_checkpoint_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluate, "settings", lambda: Settings(dllm_model="/no/such/checkpoint"))
    result = runner.invoke(app, ["eval", "--part", "text", "--calls", "1"])
    assert result.exit_code == 1
    assert "/no/such/checkpoint" in result.stderr
    assert "Traceback" not in result.stderr


def test_text_sets_are_measured_with_the_settings_model(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path
):
    chosen = Settings(dllm_model=str(checkpoint), dllm_device="cpu", commit_threshold=1e-6)
    monkeypatch.setattr(evaluate, "settings", lambda: chosen)
    result = runner.invoke(app, ["eval", "--part", "text", "--calls", "1", "--json"])
    report = json.loads(result.stdout)
    assert [text_set["name"] for text_set in report["text"]] == [s.name for s in TEXT_SETS]
    assert report["text"][0]["measures"]["valid.lead_score"]["value"] == 1.0
    assert report["models"]["dllm"]["name"] == str(checkpoint)
    assert report["settings"]["threshold"] == 1e-6


def test_the_bare_command_needs_no_settings(checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    bare.main(
        [
            str(checkpoint),
            "--calls",
            "1",
            "--steps-calls",
            "0",
            "--threshold",
            "1e-6",
            "--reference",
        ]
    )
    report = json.loads(capsys.readouterr().out)
    assert report["settings"] == {"threshold": 1e-6, "decoder": "ReferenceDecoder"}
    assert len(report["text"]) == len(TEXT_SETS)
    assert report["steps"] == []


def test_the_bare_command_imports_nothing_of_the_service():
    code = "import sys, workers.evaluation.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    service = {
        "celery",
        "db",
        "faster_whisper",
        "av",
        "rich",
        "sqlalchemy",
        "transformers",
        "typer",
    }
    assert not service & set(done.stdout.split())
