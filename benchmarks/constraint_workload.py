"""What the constraint is measured on: shapes, a vocabulary of production size, and schemas like the built-in ones."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.model_shape import ModelShape
from inference.diffusion.model import Block
from inference.diffusion.tokenizer import DiffusionTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSizes(ModelShape):
    """Of the model, and of the batch whose steps are measured."""

    num_calls: int = 64
    prompt: int = 1500
    text_length: float = 1.0  # of what is usual


TINY = StepSizes(
    d_model=64,
    n_layers=2,
    n_heads=2,
    mlp=128,
    vocab=3900,
    dtype=torch.float32,
    num_calls=1,
    prompt=70,
    text_length=0.1,
)


class LargeVocabulary:
    """The embedded tokenizer with words added that it never writes, up to the size of a production vocabulary."""

    def __init__(self, base: DiffusionTokenizer, num_tokens: int) -> None:
        dice = random.Random(0)
        known = list(base.token_bytes)
        words = [piece for piece in known if piece.decode("utf-8", "replace").strip().isalpha()]
        seen = set(known)
        while len(known) < num_tokens:
            piece = b"".join(dice.choices(words, k=dice.randint(2, 3)))
            if piece not in seen:
                seen.add(piece)
                known.append(piece)
        self.token_bytes = known
        self.pad_token_id, self.mask_token_id = base.pad_token_id, base.mask_token_id
        self.encode = base.encode


def schemas(text_length: float) -> dict[str, dict[str, Any]]:
    """Three records with slots like those of the built-in ones: mostly free text; choices; choices and their turns."""
    turn = {"anyOf": [{"type": "integer", "minimum": 1, "x-evidence": "turn"}, {"type": "null"}]}

    def text(length: int) -> dict[str, Any]:
        string = {"type": "string", "maxLength": round(length * text_length)}
        return {"anyOf": [string, {"type": "null"}]}

    def choice(*values: str) -> dict[str, Any]:
        return {"enum": [*values, "unknown", "not_applicable"]}

    def record(**properties: Any) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "required": list(properties)}

    moods = choice("positive", "neutral", "negative", "mixed")
    asked = {
        "intent": choice("book", "reschedule", "cancel", "price", "question", "complaint"),
        "urgency": choice("high", "medium", "low"),
        "budget_fit": choice("fits", "stretch", "over"),
        "authority": choice("self", "shared", "other"),
        "timeline": choice("today", "week", "month", "later"),
        "commitment": choice("committed", "considering", "refused"),
        "objection": choice("none", "price", "timing", "trust", "competitor"),
    }
    lead = {
        key: value
        for name, kind in asked.items()
        for key, value in ((name, kind), (f"{name}_turn", turn))
    }
    return {
        "summary": record(
            summary={"type": "string", "minLength": 1, "maxLength": round(180 * text_length)},
            outcome=choice("booked", "rescheduled", "cancelled", "transferred", "answered"),
            outcome_turn=turn,
            caller_name=text(40),
            service=text(48),
            appointment=text(40),
            price=text(32),
            next_step=text(80),
        ),
        "sentiment": record(overall=moods, overall_turn=turn, start=moods, end=moods),
        "lead_score": record(**lead),
    }


def random_block(sizes: ModelShape, device: torch.device) -> Block:
    """One layer of the trunk."""
    with torch.device(device):
        return Block(sizes.config()).to(sizes.dtype).requires_grad_(False)
