"""Both decoders on a small untrained checkpoint: effort, order, records or none."""

import shutil
from pathlib import Path

import numpy as np

from workers.evaluation.decoders import EngineDecoder, ReferenceDecoder
from workers.evaluation.text import decode_set
from workers.evaluation.text_sets import TEXT_SETS, request_of

CALLS = TEXT_SETS[0].calls(3)


def test_effort_follows_the_threshold(checkpoint: Path):
    decoder = ReferenceDecoder(checkpoint)
    requests = [request_of(call) for call in CALLS[:1]]
    at_once = list(decoder.at(0.0)(requests))
    one_by_one = list(decoder.at(None)(requests))
    assert [a.name for a in at_once] == ["summary", "sentiment", "lead_score"]
    assert {a.num_steps for a in at_once} == {1}
    for answer in at_once:
        assert sum(effort.num_tokens for effort in answer.slots.values()) == answer.num_tokens
        assert {effort.num_steps for effort in answer.slots.values()} == {1}
    assert [max(e.num_steps for e in a.slots.values()) for a in one_by_one] == [
        a.num_steps for a in one_by_one
    ]
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


def test_the_engine_gives_records_even_untrained(checkpoint: Path):
    decoded = decode_set(CALLS, EngineDecoder(checkpoint, device="cpu").at(0.0))
    measures = decoded.measures()
    for name in ("valid.summary", "valid.sentiment", "valid.lead_score"):
        assert measures[name].statistic(np.ones((1, len(CALLS))))[0] == 1.0
    assert {answer.num_steps for call in decoded.answers for answer in call.values()} == {1}


def test_engine_fingerprints_tell_thresholds_apart(checkpoint: Path):
    decoder = EngineDecoder(checkpoint, device="cpu")
    assert decoder.fingerprint(0.9) == decoder.fingerprint(0.9)
    assert decoder.fingerprint(0.9) != decoder.fingerprint(None)
