"""Subschemas with their place in the document, and `$ref` to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from inference.diffusion.structured.schema.errors import SchemaError
from inference.diffusion.structured.schema.keywords import Schema, refuse_unknown
from inference.diffusion.structured.schema.plan import escaped


@dataclass(frozen=True, slots=True)
class Place:
    """A subschema, its JSON pointer, and the references followed to reach it."""

    schema: Schema
    at: str
    trail: tuple[str, ...]

    def inside(self, schema: Any, *tokens: str) -> Place:
        """The place of `schema`, below this one."""
        at = "".join([self.at, *(f"/{escaped(token)}" for token in tokens)])
        if not isinstance(schema, dict):
            raise SchemaError(at, str(schema).lower(), "write a schema with a type")
        return Place(schema, at, self.trail)


class Resolver:
    """Follows `$ref` inside one document."""

    def __init__(self, root: Schema) -> None:
        self.root = root

    def follow(self, place: Place) -> Place:
        """The place that `place` refers to, through any number of references; itself when it holds none.

        Raises:
            SchemaError: the target is missing, outside the document, or holds the reference itself.
        """
        while "$ref" in place.schema:
            refuse_unknown(place.schema, {"$ref"}, place.at)
            target = place.schema["$ref"]
            if target in place.trail:
                instead = "write the recursion out to the depth you need"
                raise SchemaError(place.at, "$ref", instead)
            found = self._look_up(target, place.at)
            place = Place(found, target.removeprefix("#"), (*place.trail, target))
        return place

    def _look_up(self, target: str, at: str) -> Schema:
        if not target.startswith("#") or target[1:2] not in ("", "/"):
            raise SchemaError(at, "$ref", "refer to $defs of the same schema, as '#/$defs/Name'")
        found: Any = self.root
        for token in target.split("/")[1:]:
            key = unquote(token).replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or key not in found:
                raise SchemaError(at, "$ref", f"define {target}")
            found = found[key]
        if not isinstance(found, dict):
            raise SchemaError(at, "$ref", f"let {target} be a schema")
        return found
