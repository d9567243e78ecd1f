"""The runner for GPUs against the plain one: on a GPU where there is one, else through Triton's interpreter."""

import os
import warnings
from pathlib import Path

import pytest
import torch

import inference
from inference.diffusion import BranchSpec, CallRequest, DiffusionEngine
from inference.diffusion.config import LladaConfig
from inference.diffusion.model import LladaModel
from inference.diffusion.rules import Quota, Threshold
from inference.diffusion.tokenizer import DiffusionTokenizer

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel's module is imported

CHECKPOINT = Path(inference.__file__).parent / "checkpoints" / "dllm"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TURN = {"anyOf": [{"type": "integer", "minimum": 1, "x-evidence": "turn"}, {"type": "null"}]}
BRANCHES = (
    BranchSpec(
        "mood",
        "How does the caller feel?",
        {
            "type": "object",
            "properties": {"mood": {"enum": ["good", "bad", "mixed"]}, "mood_turn": TURN},
            "required": ["mood", "mood_turn"],
        },
    ),
    BranchSpec(
        "name",
        "Who calls?",
        {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 12}},
            "required": ["name"],
        },
    ),
)
REQUESTS = [  # short, as the interpreter takes milliseconds for every row
    CallRequest("a", ("1 agent: Hello.", "2 caller: It is Ann."), BRANCHES),
    CallRequest("b", ("1 caller: Hi?",), BRANCHES[1:]),
]


def random_model(tokenizer: DiffusionTokenizer, *, n_kv_heads: int, tied: bool) -> LladaModel:
    """A small model with logits that differ enough for two ways of summing to agree on their order."""
    config = LladaConfig(
        d_model=64,
        n_layers=2,
        n_heads=4,
        n_kv_heads=n_kv_heads,
        mlp_hidden_size=96,
        vocab_size=len(tokenizer.token_bytes),
        embedding_size=len(tokenizer.token_bytes),
        max_sequence_length=512,
        rope_theta=10_000.0,
        rms_norm_eps=1e-5,
        weight_tying=tied,
        mask_token_id=tokenizer.mask_token_id,
        eos_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(n_kv_heads)
    model = LladaModel(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=2 * parameter.shape[1] ** -0.5)
    return model.requires_grad_(False).eval().to(DEVICE)


def assert_same(found, expected):
    """To the last bit, on a GPU: in the interpreter numpy multiplies, in an order that depends on where rows lie."""
    assert set(found) == set(expected)
    for key, result in expected.items():
        if DEVICE.type == "cuda":
            assert found[key] == result
        else:
            assert_alike(found[key], result)


def assert_alike(found, expected):
    """The same decisions; sums may be taken in another order."""
    assert found.value == expected.value
    assert found.commit_steps == expected.commit_steps
    assert found.confidence == pytest.approx(expected.confidence, rel=1e-3, abs=1e-6)


def decode(model, tokenizer, *, rule, requests, **options):
    engine = DiffusionEngine(model, tokenizer, rule=rule, max_batch_tokens=512, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the interpreter's, about masked lanes
        found = {(result.call_id, result.name): result for result in engine.generate(requests)}
    assert not engine.has_work
    return found


@pytest.fixture(scope="module")
def tokenizer():
    return DiffusionTokenizer.read(CHECKPOINT)


@pytest.mark.parametrize(
    ("n_kv_heads", "tied", "rule", "deterministic"),
    [(4, False, Threshold(0.02), True), (2, True, Quota(3), False)],
)
def test_fills_in_the_records_that_the_plain_runner_fills_in(
    tokenizer, n_kv_heads, tied, rule, deterministic
):
    model = random_model(tokenizer, n_kv_heads=n_kv_heads, tied=tied)
    plain = decode(model, tokenizer, rule=rule, requests=REQUESTS, use_kernels=False)
    options = {"use_kernels": True, "deterministic": deterministic, "max_batch_calls": 1}
    found = decode(model, tokenizer, rule=rule, requests=REQUESTS, **options)
    assert set(found) == set(plain)
    for key, expected in plain.items():
        assert_alike(found[key], expected)


def test_a_call_alone_gives_the_bits_it_gives_in_a_batch(tokenizer):
    model = random_model(tokenizer, n_kv_heads=2, tied=False)
    if DEVICE.type == "cuda":  # what is promised, and served there; float32 is summed tile by tile
        model = model.bfloat16()
    options = {"rule": Threshold(0.02), "use_kernels": True, "deterministic": True}
    together = decode(model, tokenizer, requests=REQUESTS, **options)
    alone = decode(model, tokenizer, requests=REQUESTS[1:], **options)
    assert_same({key: together[key] for key in alone}, alone)


def test_prompts_are_encoded_anew_as_the_plain_runner_does(tokenizer):
    model = random_model(tokenizer, n_kv_heads=4, tied=False)
    options = {"prompt_cache": "refresh", "refresh_every": 2, "rule": Quota(3)}
    plain = decode(model, tokenizer, requests=REQUESTS[1:], use_kernels=False, **options)
    found = decode(model, tokenizer, requests=REQUESTS[1:], use_kernels=True, **options)
    assert {key: result.value for key, result in found.items()} == {
        key: result.value for key, result in plain.items()
    }


def test_an_interrupted_batch_leaves_nothing_behind(tokenizer):
    model = random_model(tokenizer, n_kv_heads=2, tied=False)
    options = {"rule": Quota(6), "max_batch_tokens": 512, "use_kernels": True}
    engine = DiffusionEngine(model, tokenizer, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for request in REQUESTS:
            engine.add(request)
        engine.step()
        engine.clear()
        assert not engine.has_work
        again = {result.name: result for result in engine.generate(REQUESTS[1:])}
        expected = DiffusionEngine(model, tokenizer, **options).generate(REQUESTS[1:])
        for result in expected:
            assert_alike(again[result.name], result)


def test_a_call_that_commits_evenly_takes_no_step_too_many(tokenizer):
    model = random_model(tokenizer, n_kv_heads=2, tied=False)
    options = {"rule": Quota(num_steps=3), "max_batch_tokens": 512, "use_kernels": True}
    engine = DiffusionEngine(model, tokenizer, **options)
    engine.add(REQUESTS[1])
    num_steps = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        while engine.has_work:
            results = engine.step()
            num_steps += 1
    assert [result.num_steps for result in results] == [3]
    assert num_steps == 3
