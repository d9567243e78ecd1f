"""Scaffolds: the fixed tokens of a record with its slots, for one tokenizer.

The canvas of a branch is `encode(instructions + "\\n")`, then the record's compact JSON text. Fixed runs and slots are
tokenised apart from each other, so a slot's tokens never depend on its neighbours. After the value a slot holds PAD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from inference.diffusion.schema import Plan, ValueNotEncodableError, compile_plan
from inference.diffusion.schema.languages import Choices, Text
from inference.diffusion.schema.plan import Slot, lay_out, read, write

CHARACTERS_PER_TOKEN = 3.2  # English speech runs at 4; names and prices need the room
MIN_TEXT_TOKENS = 4
MAX_TEXT_TOKENS = 64  # bounds the constraint's length loop; 180 characters need 57
DEFAULT_TEXT_TOKENS = 32  # text without maxLength: two short sentences


class Tokenizer(Protocol):
    """What a scaffold needs to know of a tokenizer. Compared by identity in caches."""

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """Bytes of every token id; empty for special tokens."""

    @property
    def pad_token_id(self) -> int:
        """Id written after a value, to the end of its slot."""

    @property
    def mask_token_id(self) -> int:
        """Id of a position still to be filled."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, no special tokens added."""


@dataclass(frozen=True, slots=True)
class SlotSpan:
    """Where a slot lies in the canvas: positions `start` to `start + num_tokens`."""

    slot: Slot
    start: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Scaffold:
    """The canvas of one branch before decoding.

    Attributes:
        name: the scorecard.
        tokens: canvas ids, mask ids in the slots.
        spans: the slots by index, in document order.
        num_turns: highest turn that evidence slots may cite; no length depends on it.
    """

    name: str
    plan: Plan
    tokens: tuple[int, ...]
    spans: tuple[SlotSpan, ...]
    num_turns: int
    tokenizer: Tokenizer

    @property
    def num_tokens(self) -> int:
        """Length of the canvas."""
        return len(self.tokens)

    def slot_positions(self) -> list[int]:
        """Canvas positions of all slots, ascending: where training masks and decoding fills."""
        return [span.start + i for span in self.spans for i in range(span.num_tokens)]

    def encode_value(self, value: dict[str, Any]) -> list[int]:
        """Canvas ids that say `value`, PAD after each value to the end of its slot.

        Free text is written in `languages.canonical_text` form. The turns cited are not compared with `num_turns`.

        Raises:
            ValueNotEncodableError: a field is outside its slot's language or longer than the slot.
        """
        texts = [""] * len(self.spans)
        write(self.plan.root, value, texts)
        tokens = list(self.tokens)
        for span, text in zip(self.spans, texts, strict=True):
            ids = self.tokenizer.encode(text) if text else []
            if len(ids) > span.num_tokens:
                raise ValueNotEncodableError(
                    span.slot.pointer, f"needs {len(ids)} tokens, the slot has {span.num_tokens}"
                )
            padding = [self.tokenizer.pad_token_id] * (span.num_tokens - len(ids))
            tokens[span.start : span.start + span.num_tokens] = ids + padding
        return tokens

    def decode_value(self, tokens: Sequence[int]) -> dict[str, Any]:
        """The value that a filled canvas says.

        Raises:
            ValueError: a slot is still masked or outside its language.
        """
        texts = [
            slot_text(tokens[s.start : s.start + s.num_tokens], self.tokenizer) for s in self.spans
        ]
        value = read(self.plan.root, texts)
        assert isinstance(value, dict)
        return value


def slot_text(tokens: Sequence[int], tokenizer: Tokenizer) -> str:
    """Text of a slot's `tokens`, up to the first PAD.

    Raises:
        ValueError: a token is masked or special, or the bytes are not UTF-8.
    """
    ids = list(tokens)
    if tokenizer.pad_token_id in ids:
        ids = ids[: ids.index(tokenizer.pad_token_id)]
    pieces = [tokenizer.token_bytes[token] for token in ids]
    if not all(pieces):
        raise ValueError(f"a masked or special token in {ids}")
    return b"".join(pieces).decode("utf-8")


def compile_scaffold(
    schema: dict[str, Any],
    tokenizer: Tokenizer,
    *,
    instructions: str,
    name: str,
    num_turns: int,
) -> Scaffold:
    """Compile `schema` to the canvas of the branch `name`.

    Raises:
        SchemaError: the schema holds a keyword that cannot be guaranteed.
    """
    plan = compile_plan(schema)
    tokens = tokenizer.encode(instructions + "\n")
    spans: list[SlotSpan] = []
    run = ""
    for piece in lay_out(plan.root):
        if isinstance(piece, str):
            run += piece
            continue
        tokens += tokenizer.encode(run)
        run = ""
        span = SlotSpan(piece, len(tokens), slot_length(piece, tokenizer))
        spans.append(span)
        tokens += [tokenizer.mask_token_id] * span.num_tokens
    tokens += tokenizer.encode(run)
    return Scaffold(name, plan, tuple(tokens), tuple(spans), num_turns, tokenizer)


def slot_length(slot: Slot, tokenizer: Tokenizer) -> int:
    """Number of tokens of a slot: the longest choice, or room for `maxLength` characters."""
    if isinstance(slot.language, Choices):
        return max(len(tokenizer.encode(text)) for text in slot.language.texts)
    if slot.num_tokens is not None:
        return slot.num_tokens
    assert isinstance(slot.language, Text)
    if slot.language.max_length is None:
        return DEFAULT_TEXT_TOKENS
    needed = math.ceil(slot.language.max_length / CHARACTERS_PER_TOKEN)
    return min(max(needed, MIN_TEXT_TOKENS), MAX_TEXT_TOKENS)
