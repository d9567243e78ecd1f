"""From a JSON schema (Draft 2020-12) to a plan."""

from __future__ import annotations

from dataclasses import replace

from inference.diffusion.structured.schema.errors import SchemaError
from inference.diffusion.structured.schema.fields import Presence, field_language
from inference.diffusion.structured.schema.keywords import ARRAY, OBJECT, Schema, refuse_unknown
from inference.diffusion.structured.schema.languages import Choices, Language
from inference.diffusion.structured.schema.plan import (
    OPEN,
    ArrayNode,
    Condition,
    Fixed,
    Member,
    Node,
    ObjectNode,
    Plan,
    Slot,
    Variants,
    escaped,
)
from inference.diffusion.structured.schema.references import Place, Resolver
from inference.diffusion.structured.schema.scalars import alternatives
from inference.diffusion.structured.schema.unions import Options, find_tag, options_of
from inference.diffusion.structured.schema.values import ABSENT, Absent, JsonValue

MAX_SLOTS = 512
"""Slots of one record. Each holds at least one token, so more would not fit a canvas."""


def compile_plan(schema: Schema) -> Plan:
    """Compile `schema`.

    Raises:
        SchemaError: a keyword cannot be guaranteed; it holds the keyword's place and what to use instead.
    """
    walker = _Walker(Resolver(schema))
    root = walker.node(Place(schema, "", ()), "", Presence.REQUIRED, None)
    if not isinstance(root, ObjectNode) or root.gate:
        raise SchemaError(
            "", "type", "a record is an object at its root; put the value in a property"
        )
    return Plan(root, tuple(walker.slots))


class _Walker:
    """Walks a schema in document order and numbers the slots."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.slots: list[Slot] = []

    def node(
        self, place: Place, pointer: str, presence: Presence, condition: Condition | None
    ) -> Node:
        options = options_of(place, self.resolver)
        if not options.composites:
            return self.scalar(options, pointer, presence, condition)
        if options.scalars:
            raise SchemaError(options.at, "anyOf", "mix objects and arrays with null only")
        gate = self.gate(options, pointer, presence, condition)
        inside = Condition(gate.index, OPEN) if gate else condition
        if len(options.composites) > 1:
            composite: ObjectNode | ArrayNode = self.union(options, pointer, inside)
        elif options.composites[0].schema["type"] == "array":
            composite = self.array(options.composites[0], pointer, inside)
        else:
            members = self.members(options.composites[0], pointer, inside)
            composite = ObjectNode(pointer, members)
        return replace(composite, gate=gate)

    def gate(
        self, options: Options, pointer: str, presence: Presence, condition: Condition | None
    ) -> Slot | None:
        bracket = "[" if options.composites[0].schema["type"] == "array" else "{"
        texts: dict[str, JsonValue | Absent] = {bracket: OPEN}
        if options.has_null:
            texts["null"] = None
        if presence is Presence.ITEM or (presence is Presence.OPTIONAL and not options.has_null):
            texts["" if "null" in texts else "null"] = ABSENT
        if len(texts) == 1:
            return None
        groups = tuple(range(OPEN, len(texts)))
        language = Choices(tuple(texts), tuple(texts.values()), quoted=False, groups=groups)  # type: ignore[arg-type]
        return self.slot(options, pointer, language, condition)

    def scalar(
        self, options: Options, pointer: str, presence: Presence, condition: Condition | None
    ) -> Node:
        parts = [part for place in options.scalars for part in alternatives(place.schema, place.at)]
        language = field_language(parts, presence, exclusive=options.exclusive, at=options.at)
        if isinstance(language, Choices):
            if options.num_tokens is not None:
                instead = "drop it: the slot is as long as its longest value"
                raise SchemaError(options.at, "x-slot-tokens", instead)
            if len(language.texts) == 1 and not language.cites_turns:
                (value,) = language.values
                assert not isinstance(value, Absent)
                return Fixed(pointer, value)
        return self.slot(options, pointer, language, condition)

    def slot(
        self,
        options: Options,
        pointer: str,
        language: Language,
        condition: Condition | None,
    ) -> Slot:
        if len(self.slots) == MAX_SLOTS:
            raise SchemaError(options.at, "maxItems", f"lower it: more than {MAX_SLOTS} slots")
        slot = Slot(len(self.slots), pointer, options.at, language, options.num_tokens, condition)
        self.slots.append(slot)
        return slot

    def members(
        self, place: Place, pointer: str, condition: Condition | None, skip: str | None = None
    ) -> tuple[Member, ...]:
        """The properties of an object schema but `skip`."""
        schema, at = place.schema, place.at
        refuse_unknown(schema, {"type"} | OBJECT, at)
        properties, required = schema.get("properties", {}), schema.get("required", [])
        for key in required:
            if key not in properties:
                raise SchemaError(at, "required", f"describe {key!r} under properties")
        if not isinstance(schema.get("additionalProperties", False), bool):
            raise SchemaError(at, "additionalProperties", "name every property under properties")
        members = []
        for key, schema_of_key in properties.items():
            if key == skip:
                continue
            inner = place.inside(schema_of_key, "properties", key)
            presence = Presence.REQUIRED if key in required else Presence.OPTIONAL
            node = self.node(inner, f"{pointer}/{escaped(key)}", presence, condition)
            members.append(Member(key, node, _missing(node, presence)))
        return tuple(members)

    def array(self, place: Place, pointer: str, condition: Condition | None) -> ArrayNode:
        schema, at = place.schema, place.at
        refuse_unknown(schema, {"type"} | ARRAY, at)
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        if high is None:
            raise SchemaError(
                at, "type", "give the array maxItems: its places are fixed beforehand"
            )
        if high < low:
            raise SchemaError(at, "maxItems", "let it be no less than minItems")
        if high and "items" not in schema:
            raise SchemaError(at, "maxItems", "say what the items are, with items")
        nodes = []
        for number in range(high):
            presence = Presence.REQUIRED if number < low else Presence.ITEM
            inner = place.inside(schema["items"], "items")
            nodes.append(self.node(inner, f"{pointer}/{number}", presence, condition))
        return ArrayNode(pointer, tuple(nodes), low)

    def union(self, options: Options, pointer: str, condition: Condition | None) -> ObjectNode:
        tag = find_tag(options, self.resolver)
        at = f"{pointer}/{escaped(tag.key)}"
        values = tuple(value for values in tag.values for value in values)
        groups = tuple(group for group, values in enumerate(tag.values) for _ in values)
        language = Choices(tuple(map(tag.text, values)), values, tag.quoted, groups)
        slot = self.slot(replace(options, num_tokens=None), at, language, condition)
        variants = tuple(
            self.members(variant, pointer, Condition(slot.index, group), skip=tag.key)
            for group, variant in enumerate(options.composites)
        )
        return ObjectNode(pointer, (), Variants(Member(tag.key, slot, ABSENT), variants))


def _missing(node: Node, presence: Presence) -> JsonValue | Absent:
    """What leaving out a property stands for; a required one may not be left out, and ABSENT is then refused."""
    gate = node.gate if isinstance(node, ObjectNode | ArrayNode) else node
    if presence is Presence.REQUIRED or gate is None:
        return ABSENT
    if isinstance(gate, Fixed):
        return gate.value
    try:
        gate.language.encode(ABSENT)
    except ValueError:
        return None
    return ABSENT
