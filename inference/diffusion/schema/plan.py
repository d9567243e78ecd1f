"""The plan of a record: its JSON text with slots in it, before any tokenizer is known.

A plan is a tree of nodes, its slots numbered in document order. `lay_out` gives the text around the slots, `write` turns a
value into one text per slot, `read` turns slot texts back into the value. Model text is never parsed as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inference.diffusion.schema.errors import ValueNotEncodableError
from inference.diffusion.schema.languages import Language
from inference.diffusion.schema.values import ABSENT, Absent, JsonValue, json_text, same_value


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value that the schema leaves no choice about."""

    pointer: str
    value: JsonValue


@dataclass(frozen=True, slots=True)
class Slot:
    """One run of masked positions; with `quoted` the quotes of its string are fixed text around it.

    Attributes:
        index: number of the slot in document order, from 0.
        pointer: JSON pointer of the value in the record.
        num_tokens: length asked for by the schema's `x-slot-tokens`, else None.
    """

    index: int
    pointer: str
    language: Language
    quoted: bool
    num_tokens: int | None


@dataclass(frozen=True, slots=True)
class ObjectNode:
    """An object with its properties in order."""

    pointer: str
    members: tuple[tuple[str, Node], ...]


Node = Fixed | Slot | ObjectNode


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled schema: the tree and its slots by index."""

    root: ObjectNode
    slots: tuple[Slot, ...]


def lay_out(node: Node) -> Iterator[str | Slot]:
    """The JSON text of `node` in pieces: fixed text and slots in document order."""
    match node:
        case Fixed():
            yield json_text(node.value)
        case Slot(quoted=True):
            yield '"'
            yield node
            yield '"'
        case Slot():
            yield node
        case ObjectNode():
            separator = "{"
            for key, member in node.members:
                yield f"{separator}{json_text(key)}:"
                yield from lay_out(member)
                separator = ","
            yield "}" if node.members else "{}"


def write(node: Node, value: JsonValue | Absent, texts: list[str]) -> None:
    """Set `texts[slot.index]` for every slot of `node` so that the slots say `value`.

    Raises:
        ValueNotEncodableError: the slots cannot say `value`.
    """
    match node:
        case Fixed():
            if not same_value(value, node.value):
                raise ValueNotEncodableError(node.pointer, f"must be {node.value!r}")
        case Slot():
            try:
                texts[node.index] = node.language.encode(value)  # type: ignore[arg-type]
            except ValueError as error:
                raise ValueNotEncodableError(node.pointer, str(error)) from error
        case ObjectNode():
            if not isinstance(value, dict):
                raise ValueNotEncodableError(node.pointer, "is not an object")
            unknown = value.keys() - {key for key, _ in node.members}
            if unknown:
                raise ValueNotEncodableError(node.pointer, f"has no slot for {sorted(unknown)}")
            for key, member in node.members:
                write(member, value.get(key, ABSENT), texts)


def read(node: Node, texts: list[str]) -> JsonValue | Absent:
    """The value that the slot texts say.

    Raises:
        ValueError: a text is outside its slot's language.
    """
    match node:
        case Fixed():
            return node.value
        case Slot():
            return node.language.decode(texts[node.index])
        case ObjectNode():
            members = ((key, read(member, texts)) for key, member in node.members)
            return {key: value for key, value in members if value is not ABSENT}
