"""Scaffolds: the fixed tokens of a record with its slots, for one tokenizer.

The canvas of a branch is `encode(instructions + "\\n")`, then the record's compact JSON text. Fixed runs and slots are
tokenised apart from each other, so a slot's tokens never depend on its neighbours. After the value a slot holds PAD.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from inference.diffusion.structured.automata import TokenAutomaton
from inference.diffusion.structured.schema import (
    Plan,
    SchemaError,
    ValueNotEncodableError,
    compile_plan,
)
from inference.diffusion.structured.schema.languages import Choices
from inference.diffusion.structured.schema.plan import Reading, Slot, lay_out, read, write
from inference.diffusion.structured.slots import SlotCompiler, SlotTable, slot_compiler
from inference.diffusion.structured.vocabulary import Tokenizer


@dataclass(frozen=True, slots=True)
class SlotSpan:
    """Where a slot lies in the canvas, positions `start` to `start + num_tokens`, and what may fill it."""

    slot: Slot
    start: int
    num_tokens: int
    table: SlotTable


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
        closed = _closed(self.plan, texts)
        tokens = list(self.tokens)
        for span, text, is_closed in zip(self.spans, texts, closed, strict=True):
            ids = self._slot_tokens(span, text, check=not is_closed)
            tokens[span.start : span.start + span.num_tokens] = ids
        return tokens

    def _slot_tokens(self, span: SlotSpan, text: str, *, check: bool) -> list[int]:
        ids = self.tokenizer.encode(text) if text else []
        if len(ids) > span.num_tokens:
            reason = f"needs {len(ids)} tokens, the slot has {span.num_tokens}"
            raise ValueNotEncodableError(span.slot.pointer, reason)
        ids = ids + [self.tokenizer.pad_token_id] * (span.num_tokens - len(ids))
        if check and isinstance(span.table, TokenAutomaton) and not span.table.accepts(ids):
            raise ValueNotEncodableError(span.slot.pointer, f"cannot be {text!r}")
        return ids

    def read_tokens(self, tokens: Sequence[int]) -> Reading:
        """The value that a filled canvas says, and which slot said what in it.

        Raises:
            ValueError: an open slot is still masked or outside its language.
        """
        texts = [self._slot_text(span, tokens) for span in self.spans]
        return read(self.plan.root, texts)

    def decode_value(self, tokens: Sequence[int]) -> dict[str, Any]:
        """The value that a filled canvas says; raises ValueError as `read_tokens` does."""
        value = self.read_tokens(tokens).value
        assert isinstance(value, dict)
        return value

    def _slot_text(self, span: SlotSpan, tokens: Sequence[int]) -> str:
        ids = list(tokens[span.start : span.start + span.num_tokens])
        if self.tokenizer.pad_token_id in ids:
            ids = ids[: ids.index(self.tokenizer.pad_token_id)]
        pieces = [self.tokenizer.token_bytes[token] for token in ids]
        if not all(pieces):
            raise ValueError(f"{span.slot.pointer}: a masked or special token in {ids}")
        return b"".join(pieces).decode("utf-8")


def _closed(plan: Plan, texts: Sequence[str]) -> list[bool]:
    """Per slot, whether the choice it depends on leaves it closed."""
    closed: list[bool] = []
    for slot in plan.slots:
        if slot.condition is None:
            closed.append(False)
            continue
        parent = plan.slots[slot.condition.slot].language
        assert isinstance(parent, Choices)
        text = texts[slot.condition.slot]
        group = parent.groups[parent.texts.index(text)] if text in parent.texts else None
        closed.append(closed[slot.condition.slot] or group != slot.condition.group)
    return closed


def compile_scaffold(
    schema: Mapping[str, Any],
    tokenizer: Tokenizer,
    *,
    instructions: str,
    name: str,
    num_turns: int,
) -> Scaffold:
    """Compile `schema` (Draft 2020-12) to the canvas of the branch `name`.

    Plans are cached by the schema's text, slot tables by their language and tokenizer, whole canvases by all of these.

    Raises:
        SchemaError: the schema holds a keyword that cannot be guaranteed.
    """
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    layout = _layout(text, instructions, slot_compiler(tokenizer))
    for span in layout.spans:
        language = span.slot.language
        if isinstance(language, Choices) and not language.num_allowed(num_turns):
            raise SchemaError(span.slot.at, "x-evidence", "allow null: no turn can be cited")
    return Scaffold(name, layout.plan, layout.tokens, layout.spans, num_turns, tokenizer)


@dataclass(frozen=True, slots=True)
class _Layout:
    plan: Plan
    tokens: tuple[int, ...]
    spans: tuple[SlotSpan, ...]


@lru_cache(maxsize=256)  # scorecards in use, times tokenizers
def _plan(schema_text: str) -> Plan:
    return compile_plan(json.loads(schema_text))


@lru_cache(maxsize=256)
def _layout(schema_text: str, instructions: str, compiler: SlotCompiler) -> _Layout:
    plan = _plan(schema_text)
    tokenizer = compiler.tokenizer
    tokens = tokenizer.encode(instructions + "\n")
    spans: list[SlotSpan] = []
    run = ""
    for piece in lay_out(plan.root):
        if isinstance(piece, str):
            run += piece
            continue
        tokens += tokenizer.encode(run) if run else []
        run = ""
        table, num_tokens = compiler.table(piece)
        spans.append(SlotSpan(piece, len(tokens), num_tokens, table))
        tokens += [tokenizer.mask_token_id] * num_tokens
    tokens += tokenizer.encode(run)
    return _Layout(plan, tuple(tokens), tuple(spans))
