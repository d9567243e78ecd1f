"""What `benchmarks.diffusion` serves: a random model of LLaDA-8B's shape, ragged calls, records of a planned length."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.baselines.llama import Shape
from benchmarks.constraint_workload import LargeVocabulary
from benchmarks.model_shape import ModelShape
from inference.diffusion.model import LladaModel
from inference.diffusion.prompt import PREAMBLE
from inference.diffusion.request import BranchSpec, CallRequest
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer

CHECKPOINT = Path(__file__).parents[1] / "inference" / "checkpoints" / "dllm"
HEAD_SHARPNESS = 2.5  # standard deviation of the logits; a trained head is about as peaked
WORDS_PER_TURN = 30
RECORDS = ("summary", "sentiment", "lead_score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes(ModelShape):
    """Of the model, the calls and the records."""

    prompt: tuple[int, int] = (1000, 2000)
    canvases: tuple[int, ...] = (54, 53, 53)
    slots: tuple[int, ...] = (20, 10)  # of each record, in tokens
    block: int = 32  # of the published decoding
    autoregressive: Shape = field(default_factory=Shape)

    @property
    def output(self) -> int:
        """Positions that follow the prompt."""
        return sum(self.canvases)

    @property
    def masked(self) -> int:
        """Of these, how many are decoded."""
        return sum(self.slots) * len(self.canvases)

    @property
    def longest_call(self) -> int:
        """Cache rows of the longest call."""
        return self.prompt[1] + self.output


TINY = Sizes(
    d_model=64,
    n_layers=2,
    n_heads=2,
    mlp=128,
    vocab=3900,
    dtype=torch.float32,
    prompt=(60, 90),
    canvases=(37, 36, 36),
    slots=(8, 6),
    block=16,
    autoregressive=Shape(d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, mlp=96, vocab=3900),
)


class ServedVocabulary(LargeVocabulary):
    """A vocabulary of production size with what the engine asks of a tokenizer."""

    def __init__(self, num_tokens: int) -> None:
        base = DiffusionTokenizer.read(CHECKPOINT)
        super().__init__(base, num_tokens)
        self.encode_batch = base.encode_batch
        self.encode_user_message = base.encode_user_message
        self.decode = base.decode


def random_model(sizes: Sizes, tokenizer: ServedVocabulary, device: torch.device) -> LladaModel:
    """Weights without meaning at the scale of trained ones. PAD is never the likeliest, so that no text ends early."""
    config = sizes.config(
        mask_token_id=tokenizer.mask_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with torch.device("meta"):
        model = LladaModel(config)
    model = model.to(sizes.dtype).to_empty(device=device).requires_grad_(False).eval()
    generator = torch.Generator(device).manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
    model.head_weight.mul_(HEAD_SHARPNESS)
    model.head_weight[tokenizer.pad_token_id] = 0
    return model


def calls(sizes: Sizes, tokenizer: ServedVocabulary, count: int) -> list[CallRequest]:
    """Calls whose prompts have every length in the range alike, in a fixed order."""
    dice = random.Random(1)
    words = [
        text
        for piece in tokenizer.token_bytes[: sizes.vocab]
        if (text := piece.decode("utf-8", "replace"))[1:].isalpha() and text.startswith(" ")
    ][:2000]
    branches = tuple(
        _branch(name, length, sizes.slots, tokenizer)
        for name, length in zip(RECORDS, sizes.canvases, strict=True)
    )
    return [
        CallRequest(str(i), _turns(dice.randint(*sizes.prompt), words, tokenizer, dice), branches)
        for i in range(count)
    ]


def prompt_tokens(tokenizer: ServedVocabulary, turns: Sequence[str]) -> list[int]:
    """The prompt of a call, as the engine builds it when it fits."""
    return tokenizer.encode_user_message("\n".join([PREAMBLE, *turns]))


def _turns(
    length: int, words: Sequence[str], tokenizer: ServedVocabulary, dice: random.Random
) -> tuple[str, ...]:
    """Turns that make a prompt of exactly `length` tokens."""
    turns = ["1 agent: Hello."]
    while (room := length - len(prompt_tokens(tokenizer, turns))) > 2 * WORDS_PER_TURN:
        speaker = ("agent", "caller")[len(turns) % 2]
        spoken = "".join(dice.choices(words, k=min(WORDS_PER_TURN, room // 3)))
        turns.append(f"{len(turns) + 1} {speaker}:{spoken}")
    filled = [*turns[:-1], turns[-1] + room * " a"]
    assert len(prompt_tokens(tokenizer, filled)) == length
    return tuple(filled)


def _branch(
    name: str, length: int, slots: Sequence[int], tokenizer: ServedVocabulary
) -> BranchSpec:
    """A record of free texts whose canvas has exactly `length` positions."""
    texts = {
        f"text_{i}": {"type": "string", "minLength": 1, "maxLength": 400, "x-slot-tokens": tokens}
        for i, tokens in enumerate(slots)
    }
    schema: dict[str, Any] = {"type": "object", "properties": texts, "required": list(texts)}
    instructions = "Read off"
    while (missing := length - _canvas_tokens(name, instructions, schema, tokenizer)) > 0:
        instructions += missing * " a"
    assert missing == 0, f"the fixed text of {name} alone has {-missing} tokens too many"
    return BranchSpec(name, instructions, schema)


def _canvas_tokens(
    name: str, instructions: str, schema: dict[str, Any], tokenizer: ServedVocabulary
) -> int:
    return compile_scaffold(
        schema, tokenizer, instructions=instructions, name=name, num_turns=1
    ).num_tokens


@dataclass(frozen=True, slots=True)
class Workload:
    """Calls to serve, with the tokenizer that they are written in."""

    sizes: Sizes
    tokenizer: ServedVocabulary
    calls: tuple[CallRequest, ...]
    prompts: dict[str, list[int]]  # of every call

    @classmethod
    def make(cls, sizes: Sizes, num_calls: int) -> Workload:
        tokenizer = ServedVocabulary(sizes.vocab)
        requests = calls(sizes, tokenizer, num_calls)
        prompts = {call.call_id: prompt_tokens(tokenizer, call.turns) for call in requests}
        return cls(sizes, tokenizer, tuple(requests), prompts)

    def many(self, count: int) -> list[CallRequest]:
        """So many calls: the list again and again, under new names."""
        rounds = enumerate(itertools.cycle(self.calls))
        return [replace(call, call_id=f"again {i}") for i, call in itertools.islice(rounds, count)]

    def canvas_tokens(self, name: str) -> int:
        """Length of the canvas of a record."""
        return self.sizes.canvases[RECORDS.index(name)]
