"""`aftercall scorecards`: files become promoted scorecards, or one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from db.session import Database
from inference.diffusion.config import LladaConfig
from inference.diffusion.tokenizer import train_tokenizer
from tests.integration.workers.samples import Aftercall, rows

GOOD = """
name: disclosure
version: {version}
instructions: Check whether the agent said what it has to say.
schema:
  type: object
  additionalProperties: false
  required: [told, told_turn, tone]
  properties:
    told: {{enum: ["yes", "no"]}}
    told_turn: {{anyOf: [{{type: integer, minimum: 1, x-evidence: turn}}, {{type: "null"}}]}}
    tone: {{type: string, maxLength: {length}}}
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without weights: what compiling needs."""
    folder = tmp_path_factory.mktemp("dllm")
    tokenizer = train_tokenizer(["the agent said that this call is recorded"] * 20, vocab_size=320)
    tokenizer.save(folder, max_length=128)
    config = LladaConfig(
        d_model=16,
        n_layers=1,
        n_heads=2,
        n_kv_heads=2,
        mlp_hidden_size=32,
        vocab_size=tokenizer.vocab_size,
        embedding_size=tokenizer.vocab_size,
        max_sequence_length=128,
        rope_theta=10_000.0,
        rms_norm_eps=1e-5,
        weight_tying=False,
        mask_token_id=tokenizer.mask_token_id,
        eos_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return folder


@pytest.fixture
def scorecards(
    aftercall: Aftercall, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> Aftercall:
    """`aftercall scorecards …` with that checkpoint."""
    monkeypatch.setenv("AFTERCALL_DLLM_MODEL", str(checkpoint))
    return lambda *arguments, **environment: aftercall("scorecards", *arguments, **environment)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "disclosure.yaml"
    path.write_text(GOOD.format(version=1, length=40))
    return path


def test_check_prints_what_fills_each_slot(scorecards: Aftercall, file: Path) -> None:
    result = scorecards("check", file)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["/told", "one", "of", "2:", "yes,", "no"] in [line[:-1] for line in lines]
    assert ["/told_turn", "a", "turn", "of", "the", "call,", "or", "null"] in [
        line[:-1] for line in lines
    ]
    assert ["/tone", "text", "13"] in lines
    assert "3 slots" in result.stdout


def test_add_promotes_each_version_and_keeps_the_last(
    scorecards: Aftercall, database: Database, file: Path
) -> None:
    added = scorecards("add", file)
    assert (added.exit_code, added.stdout) == (0, "disclosure version 1 is stored and promoted.\n")
    assert "--scorecard disclosure" in added.stderr
    assert scorecards("add", file).exit_code == 0
    file.write_text(GOOD.format(version=1, length=20))
    changed = scorecards("add", file)
    assert (changed.exit_code, changed.stderr.count("\n")) == (1, 1)
    assert "give the changed one a new version" in changed.stderr
    file.write_text(GOOD.format(version=2, length=20))
    assert scorecards("add", file).exit_code == 0
    file.write_text(GOOD.format(version=3, length=30))
    assert "is stored and draft" in scorecards("add", file, "--draft").stdout
    assert rows(
        database, "SELECT version, status FROM scorecards WHERE name = 'disclosure' ORDER BY 1"
    ) == [(1, "retired"), (2, "promoted"), (3, "draft")]
    listed = json.loads(scorecards("list", "--json").stdout)
    assert {"name": "disclosure", "version": 2, "kind": "custom", "status": "promoted"} in listed
    assert "disclosure" in scorecards("list").stdout


def test_show_prints_a_file_that_add_takes(scorecards: Aftercall, file: Path) -> None:
    scorecards("add", file)
    shown = scorecards("show", "disclosure", "--version", "1")
    assert shown.exit_code == 0
    file.write_text(shown.stdout)
    assert scorecards("add", file).exit_code == 0
    assert scorecards("show", "nobody").stderr == "aftercall: there is no scorecard 'nobody'\n"


def test_a_pydantic_model_does_as_well(scorecards: Aftercall, tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(
        "from typing import Literal\nfrom pydantic import BaseModel\n"
        "class Tone(BaseModel):\n    tone: Literal['warm', 'cool']\n"
        "broken = 1\n"
    )
    file = tmp_path / "tone.yaml"
    file.write_text("name: tone\nversion: 1\ninstructions: Judge.\nmodel: models.py:Tone\n")
    assert "one of 2: warm, cool" in scorecards("check", file).stdout
    file.write_text("name: tone\nversion: 1\ninstructions: Judge.\nmodel: models.py:broken\n")
    assert "has no pydantic model 'broken'" in scorecards("check", file).stderr
    (tmp_path / "models.py").write_text("1 / 0\n")
    assert "ZeroDivisionError" in scorecards("check", file).stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: [", "is not YAML"),
        ("just text", "Input should be"),
        ("name: Bad Name\nversion: 1\ninstructions: x\nschema: {}", "name: String should match"),
        ("name: a\nversion: 0\ninstructions: x\nschema: {}", "version: "),
        ("name: a\nversion: 1\ninstructions: x", "give either `schema` or `model`"),
        ("name: summary\nversion: 9\ninstructions: x\nschema: {}", "built-in scorecard"),
        ("name: a\nversion: 1\ninstructions: x\nmodel: nope.py:A", "names no class in a file"),
        (
            "name: a\nversion: 1\ninstructions: x\nschema: {type: object, required: [b], "
            "properties: {b: {type: array, uniqueItems: true, items: {type: string}}}}",
            "a is refused: /properties/b: 'uniqueItems'",
        ),
    ],
)
def test_what_is_no_scorecard_is_one_line(
    scorecards: Aftercall, database: Database, file: Path, content: str, message: str
) -> None:
    file.write_text(content)
    for command in ("check", "add"):
        result = scorecards(command, file)
        assert result.exit_code == 1
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert rows(database, "SELECT count(*) FROM scorecards WHERE name IN ('a', 'Bad Name')") == [
        (0,)
    ]


def test_a_missing_file_or_checkpoint_is_one_line(
    scorecards: Aftercall, file: Path, tmp_path: Path
) -> None:
    assert "cannot be read" in scorecards("check", tmp_path / "nope.yaml").stderr
    absent = str(tmp_path / "nope")
    for command in ("check", "add"):
        result = scorecards(command, file, AFTERCALL_DLLM_MODEL=absent)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert f"AFTERCALL_DLLM_MODEL): {absent} is neither" in result.stderr


def test_a_model_may_be_given_by_its_hub_name(
    scorecards: Aftercall, file: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def snapshot_download(name: str, **_: object) -> str:
        asked.append(name)
        return str(checkpoint)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for command in ("check", "add"):
        assert scorecards(command, file, AFTERCALL_DLLM_MODEL="owner/model").exit_code == 0
    assert asked == ["owner/model"] * 2


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("owner/model", LocalEntryNotFoundError("no\nconnection")),
        ("owner/mo:del", HFValidationError("Repo id must use alphanumeric chars")),
    ],
)
def test_a_hub_name_that_brings_no_model_is_one_line(
    scorecards: Aftercall,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for command in ("check", "add"):
        result = scorecards(command, file, AFTERCALL_DLLM_MODEL=name)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert " ".join(str(error).split()) in result.stderr
