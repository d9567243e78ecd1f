"""The plan of a record: its JSON text with slots in it, before any tokenizer is known.

A plan is a tree of nodes, its slots numbered in document order. `lay_out` gives the text around the slots, `write`
turns a value into one text per slot, `read` turns slot texts back into the value. Model text is never parsed as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from inference.diffusion.structured.schema.errors import ValueNotEncodableError
from inference.diffusion.structured.schema.languages import Choices, Language
from inference.diffusion.structured.schema.values import (
    ABSENT,
    Absent,
    JsonValue,
    json_text,
    same_value,
)

OPEN = 0
"""Group of the choice of a gate that says the object or array is there."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A slot is open when slot `slot` holds a choice of group `group`; else it is closed: all PAD and ignored."""

    slot: int
    group: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value that the schema leaves no choice about."""

    pointer: str
    value: JsonValue


@dataclass(frozen=True, slots=True)
class Slot:
    """One run of masked positions.

    Attributes:
        index: number of the slot in document order, from 0.
        pointer: JSON pointer of the value in the record; array items are numbered by their place in the scaffold.
        at: JSON pointer of the subschema.
        num_tokens: length asked for by the schema's `x-slot-tokens`, else None.
    """

    index: int
    pointer: str
    at: str
    language: Language
    num_tokens: int | None
    condition: Condition | None


@dataclass(frozen=True, slots=True)
class Member:
    """A property; `missing` is the value that leaving it out stands for, where it may be left out."""

    key: str
    node: Node
    missing: JsonValue | Absent


@dataclass(frozen=True, slots=True)
class Variants:
    """The members that depend on the tag of a discriminated union: `members[group]` for the tag's group."""

    tag: Member
    members: tuple[tuple[Member, ...], ...]

    def group_of(self, value: object) -> int:
        """Number of the variant with tag `value`; raises ValueError when there is none."""
        node = self.tag.node
        if isinstance(node, Slot) and isinstance(node.language, Choices):
            return node.language.groups[node.language.texts.index(node.language.encode(value))]  # type: ignore[arg-type]
        return 0


@dataclass(frozen=True, slots=True)
class ObjectNode:
    """An object. A `gate` slot writes `{` or `null` in place of the opening bracket."""

    pointer: str
    members: tuple[Member, ...]
    variants: Variants | None = None
    gate: Slot | None = None


@dataclass(frozen=True, slots=True)
class ArrayNode:
    """An array with a place for every item that may be there; the first `num_required` are. `gate` as for objects."""

    pointer: str
    items: tuple[Node, ...]
    num_required: int
    gate: Slot | None = None


Node = Fixed | Slot | ObjectNode | ArrayNode


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
        case Slot():
            quote = '"' if node.language.quoted else ""
            yield quote
            yield node
            yield quote
        case ObjectNode():
            yield node.gate or "{"
            separator = ""
            for member in _all_members(node):
                yield f"{separator}{json_text(member.key)}:"
                yield from lay_out(member.node)
                separator = ","
            yield "}"
        case ArrayNode():
            yield node.gate or "["
            for place, item in enumerate(node.items):
                yield "," if place else ""
                yield from lay_out(item)
            yield "]"


def _all_members(node: ObjectNode) -> Iterator[Member]:
    yield from node.members
    if node.variants:
        yield node.variants.tag
        for members in node.variants.members:
            yield from members


def write(node: Node, value: JsonValue | Absent, texts: list[str]) -> None:
    """Set `texts[slot.index]` for every slot of `node` so that the slots say `value`; closed slots keep theirs.

    Raises:
        ValueNotEncodableError: the slots cannot say `value`.
    """
    match node:
        case Fixed():
            if not same_value(value, node.value):
                raise ValueNotEncodableError(node.pointer, f"must be {node.value!r}")
        case Slot():
            texts[node.index] = _encode(node, value)
        case ObjectNode(gate=Slot() as gate) | ArrayNode(gate=Slot() as gate):
            there = isinstance(value, (dict, list))
            if not there and value is not None and value is not ABSENT:
                raise ValueNotEncodableError(node.pointer, "is no object or array")
            texts[gate.index] = _encode(gate, OPEN if there else value)
            if there:
                _write_parts(node, value, texts)
        case ObjectNode() | ArrayNode():
            _write_parts(node, value, texts)


def _encode(slot: Slot, value: JsonValue | Absent) -> str:
    if isinstance(value, (dict, list)):
        raise ValueNotEncodableError(slot.pointer, "is no scalar")
    try:
        return slot.language.encode(value)
    except ValueError as error:
        raise ValueNotEncodableError(slot.pointer, str(error)) from error


def _write_parts(node: ObjectNode | ArrayNode, value: JsonValue | Absent, texts: list[str]) -> None:
    if isinstance(node, ArrayNode):
        if not isinstance(value, list) or not node.num_required <= len(value) <= len(node.items):
            bounds = f"{node.num_required} to {len(node.items)}"
            raise ValueNotEncodableError(node.pointer, f"is not an array of {bounds} items")
        for place, item in enumerate(node.items):
            write(item, value[place] if place < len(value) else ABSENT, texts)
        return
    if not isinstance(value, dict):
        raise ValueNotEncodableError(node.pointer, "is not an object")
    members = list(node.members)
    if node.variants:
        tag = value.get(node.variants.tag.key)
        write(node.variants.tag.node, tag, texts)
        members += [node.variants.tag, *node.variants.members[node.variants.group_of(tag)]]
    unknown = value.keys() - {member.key for member in members}
    if unknown:
        raise ValueNotEncodableError(node.pointer, f"has no place for {sorted(unknown)}")
    for member in members:
        write(member.node, value.get(member.key, member.missing), texts)


@dataclass(frozen=True, slots=True)
class Reading:
    """A value read off the slots, and which slot said what in it: JSON pointer to slot index."""

    value: JsonValue | Absent
    slots: dict[str, int] = field(default_factory=dict)


def read(node: Node, texts: list[str], pointer: str = "") -> Reading:
    """The value that the slot texts say.

    Raises:
        ValueError: a text is outside its slot's language.
    """
    match node:
        case Fixed():
            return Reading(node.value)
        case Slot():
            return Reading(node.language.decode(texts[node.index]), {pointer: node.index})
        case ObjectNode(gate=Slot() as gate) | ArrayNode(gate=Slot() as gate):
            value = gate.language.decode(texts[gate.index])
            if value is not OPEN:
                return Reading(value, {pointer: gate.index})
            reading = _read_parts(node, texts, pointer)
            return Reading(reading.value, {pointer: gate.index, **reading.slots})
        case ObjectNode() | ArrayNode():
            return _read_parts(node, texts, pointer)


def _read_parts(node: ObjectNode | ArrayNode, texts: list[str], pointer: str) -> Reading:
    slots: dict[str, int] = {}
    if isinstance(node, ArrayNode):
        items: list[JsonValue] = []
        for item in node.items:
            reading = read(item, texts, f"{pointer}/{len(items)}")
            if not isinstance(reading.value, Absent):
                items.append(reading.value)
                slots |= reading.slots
        return Reading(items, slots)
    members = list(node.members)
    if node.variants:
        tag = read(node.variants.tag.node, texts).value
        members += [node.variants.tag, *node.variants.members[node.variants.group_of(tag)]]
    record: dict[str, JsonValue] = {}
    for member in members:
        reading = read(member.node, texts, f"{pointer}/{escaped(member.key)}")
        slots |= reading.slots
        if not isinstance(reading.value, Absent):
            record[member.key] = reading.value
    return Reading(record, slots)


def escaped(key: str) -> str:
    """`key` as a token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
