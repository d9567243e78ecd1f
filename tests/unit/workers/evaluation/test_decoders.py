"""The reference decoder on a small untrained checkpoint: its effort, its order, and text that is no record."""

import shutil
from pathlib import Path

import pytest
import torch

from inference.diffusion.checkpoint import save_model
from inference.diffusion.tokenizer import train_tokenizer
from inference.training.dllm.start import embedded_config, fresh_model
from workers.evaluation.decoders import ReferenceDecoder
from workers.evaluation.text import decode_set
from workers.evaluation.text_sets import TEXT_SETS, request_of

CALLS = TEXT_SETS[0].calls(3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    torch.set_num_threads(1)
    texts = [text for call in CALLS for _, text in call.turns]
    tokenizer = train_tokenizer(texts, vocab_size=400)
    config = embedded_config(tokenizer, d_model=16, n_layers=1, n_heads=2, mlp_hidden_size=16)
    model = fresh_model(config, seed=1, device=torch.device("cpu"))
    save_model(directory, config, model.state_dict())
    tokenizer.save(directory, max_length=config.max_sequence_length)
    return directory


def test_effort_follows_the_threshold(checkpoint: Path):
    decoder = ReferenceDecoder(checkpoint)
    requests = [request_of(call) for call in CALLS[:1]]
    at_once = list(decoder.at(0.0)(requests))
    one_by_one = list(decoder.at(None)(requests))
    assert [a.name for a in at_once] == ["summary", "sentiment", "lead_score"]
    assert {a.num_steps for a in at_once} == {1}
    assert [a.num_steps for a in one_by_one] == [a.num_tokens for a in at_once]


def test_every_call_gets_its_own_answers(checkpoint: Path):
    decode = ReferenceDecoder(checkpoint).at(0.0)
    together = {(a.call_id, a.name): a for a in decode([request_of(call) for call in CALLS])}
    assert len(together) == 3 * len(CALLS)
    for call in CALLS:
        for answer in decode([request_of(call)]):
            assert together[call.id, answer.name] == answer


def test_text_that_is_no_record_is_measured_as_missing(checkpoint: Path):
    decoded = decode_set(CALLS, ReferenceDecoder(checkpoint).at(0.0))
    found = [record for call in decoded.calls for record in call.found.values()]
    assert found == [None] * 9  # untrained text fits no schema
    accuracy = decoded.measures()["accuracy.enums"]
    assert accuracy.count == 11 * len(CALLS)


def test_fingerprint_follows_the_weights(checkpoint: Path, tmp_path: Path):
    same = shutil.copytree(checkpoint, tmp_path / "same")
    other = shutil.copytree(checkpoint, tmp_path / "other")
    file = next(other.glob("*.safetensors"))
    weights = bytearray(file.read_bytes())
    weights[-1] ^= 1
    file.write_bytes(bytes(weights))
    fingerprint = ReferenceDecoder(checkpoint).fingerprint(0.9)
    assert ReferenceDecoder(same).fingerprint(0.9) == fingerprint
    assert ReferenceDecoder(other).fingerprint(0.9) != fingerprint
    assert ReferenceDecoder(checkpoint).fingerprint(None) != fingerprint
