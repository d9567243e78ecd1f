"""From a JSON schema to a plan."""

from __future__ import annotations

from typing import Any

from inference.diffusion.schema.errors import SchemaError
from inference.diffusion.schema.languages import Choices, Empty, Language, Text
from inference.diffusion.schema.plan import Node, ObjectNode, Plan, Slot
from inference.diffusion.schema.values import json_text

MAX_TURN = 999
"""Highest turn that an evidence slot can cite: three digits, more turns than any prompt holds."""


def compile_plan(schema: dict[str, Any]) -> Plan:
    """Compile `schema` (Draft 2020-12).

    Raises:
        SchemaError: a keyword cannot be guaranteed.
    """
    walker = _Walker()
    root = walker.node(schema, "", "", Empty.REFUSED)
    if not isinstance(root, ObjectNode):
        raise SchemaError("", "type", "a record is an object at its root")
    return Plan(root, tuple(walker.slots))


class _Walker:
    def __init__(self) -> None:
        self.slots: list[Slot] = []

    def node(self, schema: dict[str, Any], at: str, pointer: str, empty: Empty) -> Node:
        if "anyOf" in schema:
            options = [option for option in schema["anyOf"] if option != {"type": "null"}]
            if len(options) == 1:
                return self.node(options[0], f"{at}/anyOf/0", pointer, Empty.NULL)
            raise SchemaError(at, "anyOf", "use one type or null")
        if schema.get("type") == "object":
            members = tuple(
                (
                    key,
                    self.node(member, f"{at}/properties/{key}", f"{pointer}/{key}", Empty.REFUSED),
                )
                for key, member in schema.get("properties", {}).items()
            )
            return ObjectNode(pointer, members)
        if "enum" in schema:
            texts = tuple(json_text(value)[1:-1] for value in schema["enum"])
            return self.slot(schema, pointer, Choices(texts, tuple(schema["enum"])), quoted=True)
        if schema.get("type") == "string":
            text = Text(schema.get("minLength", 0), schema.get("maxLength"), empty)
            return self.slot(schema, pointer, text, quoted=True)
        if schema.get("type") == "integer" and schema.get("x-evidence") == "turn":
            turns = range(
                schema.get("minimum", 1), min(schema.get("maximum", MAX_TURN), MAX_TURN) + 1
            )
            none = ("null",) if empty is Empty.NULL else ()
            language = Choices(
                (*none, *map(str, turns)), (*(None for _ in none), *turns), cites_turns=True
            )
            return self.slot(schema, pointer, language, quoted=False)
        raise SchemaError(at, "type", "use object, string, enum or an evidence turn")

    def slot(
        self, schema: dict[str, Any], pointer: str, language: Language, *, quoted: bool
    ) -> Slot:
        slot = Slot(len(self.slots), pointer, language, quoted, schema.get("x-slot-tokens"))
        self.slots.append(slot)
        return slot
