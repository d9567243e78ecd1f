"""A run from end to end at toy size: pool, curriculum, state, shards, int8 model, faster-whisper."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from faster_whisper import WhisperModel

from analytics.simulator.speech.corpus import SpokenUtterance
from inference.training.asr.config import AsrTrainingConfig, Stage
from inference.training.asr.convert import convert
from inference.training.asr.export import load_shards, save_shards
from inference.training.asr.pool import write_shard
from inference.training.asr.train import train_asr

_TEXTS = ("Hello there.", "It's $120 at 3:30 pm.", "Thanks, bye.")


def _texts(seed: int) -> Iterator[str]:
    return cycle(_TEXTS)


def _speech(seed: int) -> Iterator[SpokenUtterance]:
    rng = np.random.default_rng(seed)
    for number, text in enumerate(cycle(_TEXTS)):
        time = np.arange(rng.integers(4_000, 12_000)) / 8_000
        samples = 3_000 * np.sin(2 * np.pi * (300 + 200 * (number % 3)) * time)
        yield SpokenUtterance(samples.astype(np.int16), text, text, f"voice {number % 2}")


def _dev_sets() -> dict[str, list[SpokenUtterance]]:
    return {"known": list(islice(_speech(9), 2))}


def _config(directory: Path, seconds: float) -> AsrTrainingConfig:
    return AsrTrainingConfig(
        work=directory / "work",
        output=directory / "out",
        max_seconds=seconds,
        reserve_seconds=0,
        device="cpu",
        synthesis_processes=0,
        first_hours=0.001,
        capacity_hours=0.1,
        tokenizer_texts=3,
        stages=(Stage(0.5, 4, 2), Stage(1.0, 8, 2)),
        width=64,
        layers=1,
        warmup_steps=3,
        save_every_seconds=0.5,
        evaluations=2,
        log_every_steps=2,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("run")
    (directory / "work" / "pool").mkdir(parents=True)
    write_shard(directory / "work/pool/shard-000-00000.npz", list(islice(_speech(1), 30)))
    train_asr(_config(directory, 6), _speech, _texts, _dev_sets)
    return directory


def _curve(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / "out/curve.jsonl").read_text().splitlines()]


def test_the_record_names_data_seed_and_result(trained: Path) -> None:
    record = json.loads((trained / "out/run.json").read_text())
    assert record["config"]["seed"] == "1"
    assert len(record["data_hash"]) == 64
    assert record["steps"] > 3
    assert set(record["dev_wer"]) == {"known"}
    losses = [line["loss"] for line in _curve(trained) if line["event"] == "step"]
    assert float(str(losses[-1])) < float(str(losses[0]))


def test_the_model_runs_in_faster_whisper_from_local_files(trained: Path, tmp_path: Path) -> None:
    output = convert(trained / "out", tmp_path / "asr")
    assert {path.name for path in output.iterdir()} == {
        "config.json",
        "model.bin",
        "preprocessor_config.json",
        "tokenizer.json",
        "vocabulary.json",
    }
    model = WhisperModel(
        str(output), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
    )
    assert not model.model.is_multilingual
    samples = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) * 0.05
    segments, info = model.transcribe(samples, language="en", temperature=0.0, beam_size=1)
    assert info.duration == 2.0
    assert all(isinstance(segment.text, str) for segment in segments)


def test_a_killed_run_goes_on_where_it_was_saved(trained: Path) -> None:
    state = torch.load(trained / "work/state.pt", weights_only=True)
    state["fraction"] = 0.5
    torch.save(state, trained / "work/state.pt")
    record = train_asr(_config(trained, 3), _speech, _texts, _dev_sets)
    started = [line for line in _curve(trained) if line["event"] == "start"][-1]
    assert started["resumed"] is True
    assert started["step"] == state["step"]
    assert float(str(started["fraction"])) >= 0.5
    assert record["steps"] > state["step"]


def test_a_run_can_start_from_trained_weights(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "work" / "pool").mkdir(parents=True)
    write_shard(tmp_path / "work/pool/shard-000-00000.npz", list(islice(_speech(2), 30)))
    config = replace(_config(tmp_path, 3), seed=2).going_on_from(trained / "out")
    train_asr(replace(config, stages=(Stage(1.0, 4, 2),)), _speech, _texts, _dev_sets)
    first = [next(line for line in _curve(run) if "loss" in line) for run in (trained, tmp_path)]
    assert float(str(first[1]["loss"])) < 0.8 * float(str(first[0]["loss"]))
    kept = (tmp_path / "out/tokenizer.json").read_text()
    assert kept == (trained / "out/tokenizer.json").read_text()


def test_shards_stay_small_and_come_back(tmp_path: Path) -> None:
    tensors = {f"layer {number}": torch.randn(100, 10) for number in range(7)}
    paths = save_shards(tensors, tmp_path, shard_bytes=5_000)
    assert len(paths) == 4
    assert all(path.stat().st_size < 5_500 for path in paths)
    loaded = load_shards(tmp_path)
    assert all(torch.equal(loaded[name], tensors[name].bfloat16()) for name in tensors)
    paths[1].unlink()
    with pytest.raises(FileNotFoundError):
        load_shards(tmp_path)
