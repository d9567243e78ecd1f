"""The engine on the shipped checkpoint: same call, same record, in bounded memory."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import pytest
import torch

import inference
from analytics.records import LeadFeatures, Sentiment, Summary
from analytics.scorecards import BUILT_IN
from analytics.simulator import simulate
from inference.diffusion import BranchSpec, CallRequest, CallTooLargeError, DiffusionEngine
from inference.diffusion.checkpoint import load_model
from inference.diffusion.model import attend_all
from inference.diffusion.prompt import build_prompt
from inference.diffusion.rules import Quota
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer

CHECKPOINT = Path(inference.__file__).parent / "checkpoints" / "dllm"
BRANCHES = tuple(BranchSpec(card.name, card.instructions, card.schema) for card in BUILT_IN)
MODELS = {"summary": Summary, "sentiment": Sentiment, "lead_score": LeadFeatures}


def request(call_id: str, call) -> CallRequest:
    turns = enumerate(call.to_json()["turns"], start=1)
    lines = tuple(f"{i} {turn['role']}: {turn['text']}" for i, turn in turns)
    return CallRequest(call_id, lines, BRANCHES)


@pytest.fixture(scope="module")
def requests():
    return [request(str(i), call) for i, call in enumerate(islice(simulate(31), 7))]


@pytest.fixture(scope="module")
def engine():
    return DiffusionEngine.load(CHECKPOINT, device="cpu", max_batch_tokens=8_192)


@pytest.fixture(scope="module")
def together(engine, requests):
    return {(r.call_id, r.name): r for r in engine.generate(requests)}


def test_every_call_gets_every_record_and_it_validates(together, requests):
    assert set(together) == {(r.call_id, card.name) for r in requests for card in BUILT_IN}
    for (_, name), result in together.items():
        MODELS[name].model_validate(result.value)


def test_records_fit_what_was_said(together):
    calls = list(islice(simulate(31), 7))
    right = [
        together[str(i), "lead_score"].value["intent"] == call.records["lead_score"]["intent"]
        for i, call in enumerate(calls)
    ]
    assert sum(right) >= 6, "training wordings: all but an odd one are read rightly"


def test_a_call_alone_gives_the_record_it_gives_in_a_batch(engine, requests, together):
    for wanted in (requests[0], requests[4]):
        for alone in engine.generate([wanted]):
            batched = together[alone.call_id, alone.name]
            assert alone.value == batched.value
            assert alone.num_steps == batched.num_steps
            assert alone.confidence == pytest.approx(batched.confidence, abs=1e-4)


def test_confidence_and_effort_are_told_per_field(together):
    result = together["0", "lead_score"]
    assert (
        set(result.confidence)
        == set(result.commit_steps)
        == {f"/{f}" for f in LeadFeatures.model_fields}
    )
    assert all(0 < confidence <= 1 for confidence in result.confidence.values())
    steps = [step for slot in result.commit_steps.values() for step in slot]
    assert len(steps) == result.num_tokens
    assert min(steps) == 1
    assert max(steps) == result.num_steps


def test_a_small_cache_makes_calls_wait_and_changes_nothing(requests, together):
    demand = max(len(line) for r in requests for line in r.turns)
    assert demand < 1_000
    small = DiffusionEngine.load(CHECKPOINT, device="cpu", max_batch_tokens=1_024)
    found = {(r.call_id, r.name): r.value for r in small.generate(requests)}
    assert found == {key: result.value for key, result in together.items()}
    assert not small.has_work


def test_results_come_as_soon_as_they_are_complete(engine, requests):
    for wanted in requests:
        engine.add(wanted)
    rounds = 0
    counts = []
    while engine.has_work:
        counts.append(len(engine.step()))
        rounds += 1
    assert sum(counts) == len(requests) * len(BRANCHES)
    assert sum(count > 0 for count in counts) > 1
    assert rounds == len(counts)


def test_an_interrupted_batch_leaves_nothing_behind(engine, requests, together):
    for wanted in requests:
        engine.add(wanted)
    engine.step()
    engine.clear()
    assert not engine.has_work
    found = {r.name: r.value for r in engine.generate([requests[1]])}
    assert found == {name: together["1", name].value for name in found}


def test_a_long_transcript_is_cut_in_the_middle_and_says_so(engine):
    turns = [
        f"{i} caller: I would like to tell you one more thing about my kitchen."
        for i in range(1, 300)
    ]
    results = list(engine.generate([CallRequest("long", tuple(turns), BRANCHES)]))
    assert len(results) == len(BRANCHES)
    for result in results:
        assert result.turns_kept is not None
        head, tail = result.turns_kept
        assert head > 0
        assert tail > 0
        assert head + tail < len(turns)


def test_a_call_beyond_the_whole_cache_is_refused_by_name(requests):
    tiny = DiffusionEngine.load(CHECKPOINT, device="cpu", max_batch_tokens=256)
    with pytest.raises(CallTooLargeError, match="call 0"):
        tiny.add(requests[0])


def test_the_fingerprint_tells_checkpoint_and_rule_apart(engine):
    same = DiffusionEngine.load(CHECKPOINT, device="cpu", max_batch_tokens=512)
    other = DiffusionEngine.load(CHECKPOINT, device="cpu", max_batch_tokens=512, threshold=0.8)
    assert same.fingerprint == engine.fingerprint
    assert other.fingerprint != engine.fingerprint


CHOICE = BranchSpec(
    "choice",
    "Yes or no?",
    {"type": "object", "properties": {"said": {"enum": ["yes", "no"]}}, "required": ["said"]},
)


def test_without_a_prompt_cache_prompt_and_canvas_see_each_other(requests):
    model = load_model(CHECKPOINT, dtype=torch.float32)
    tokenizer = DiffusionTokenizer.load(CHECKPOINT, model.config)
    call = CallRequest("one", requests[0].turns, (CHOICE,))
    engine = DiffusionEngine(
        model, tokenizer, rule=Quota(100), max_batch_tokens=2_048, prompt_cache="off"
    )
    (found,) = engine.generate([call])
    scaffold = compile_scaffold(
        CHOICE.schema, tokenizer, instructions=CHOICE.instructions, name="choice", num_turns=9
    )
    prompt = build_prompt(tokenizer, call.turns, max_tokens=1_024).token_ids
    tokens = torch.tensor([*prompt, *scaffold.tokens])
    with torch.inference_mode():
        hidden = model.trunk(tokens, torch.arange(len(tokens)), lambda _, *qkv: attend_all(*qkv))
        odds = model.logits(hidden).log_softmax(-1)
    (span,) = scaffold.spans
    slot = range(span.start, span.start + span.num_tokens)
    score = {}
    for word in ("yes", "no"):
        filled = scaffold.encode_value({"said": word})
        score[word] = sum(odds[len(prompt) + place, filled[place]].item() for place in slot)
    said = max(score, key=score.__getitem__)
    assert found.value == {"said": said}
    expected = 1 / (1 + math.exp(min(score.values()) - max(score.values())))
    assert found.confidence["/said"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("prompt_cache", ["refresh", "off"])
def test_every_prompt_cache_gives_valid_records_in_bounded_memory(requests, prompt_cache):
    model = load_model(CHECKPOINT, dtype=torch.float32)
    tokenizer = DiffusionTokenizer.load(CHECKPOINT, model.config)
    engine = DiffusionEngine(
        model,
        tokenizer,
        rule=Quota(40),
        max_batch_tokens=1_536,
        prompt_cache=prompt_cache,
    )
    results = list(engine.generate(requests[:2]))
    assert len(results) == 2 * len(BRANCHES)
    for result in results:
        MODELS[result.name].model_validate(result.value)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
