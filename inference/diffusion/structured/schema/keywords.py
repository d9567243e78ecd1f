"""The JSON schema keywords (Draft 2020-12) that are understood, and what to use instead of the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inference.diffusion.structured.schema.errors import SchemaError

Schema = dict[str, Any]

ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"$comment", "$schema", "$defs", "definitions"}
)
"""Keywords that constrain nothing."""

STRING = frozenset({"minLength", "maxLength", "pattern", "format", "x-slot-tokens"})
NUMBER = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "x-slot-tokens"}
)
INTEGER = NUMBER | {"x-evidence"}
OBJECT = frozenset({"properties", "required", "additionalProperties"})
ARRAY = frozenset({"items", "minItems", "maxItems"})

MAX_SLOT_TOKENS = 64
"""Longest slot; bounds the constraint's loop over positions."""

BY_TYPE = {
    "string": STRING,
    "number": NUMBER,
    "integer": INTEGER,
    "boolean": frozenset[str](),
    "null": frozenset[str](),
    "object": OBJECT,
    "array": ARRAY,
}
"""Type to the keywords that constrain it."""

INSTEAD = {
    "allOf": "merge the subschemas into one",
    "not": "list what is allowed, with enum or anyOf",
    "if": "use a discriminated union (oneOf with a const property)",
    "then": "use a discriminated union (oneOf with a const property)",
    "else": "use a discriminated union (oneOf with a const property)",
    "dependentRequired": "use a discriminated union (oneOf with a const property)",
    "dependentSchemas": "use a discriminated union (oneOf with a const property)",
    "patternProperties": "name every property under properties",
    "propertyNames": "name every property under properties",
    "minProperties": "list what must be there under required",
    "maxProperties": "name every property under properties",
    "unevaluatedProperties": "use additionalProperties: false",
    "unevaluatedItems": "use items with maxItems",
    "prefixItems": "use an object with one property per position",
    "contains": "use a property of its own for what must be there",
    "minContains": "use a property of its own for what must be there",
    "maxContains": "use maxItems",
    "uniqueItems": "use one boolean property per possible item, or drop duplicates afterwards",
    "$dynamicRef": "use $ref to a definition in $defs",
    "$dynamicAnchor": "use $ref to a definition in $defs",
    "$anchor": "use $ref with a JSON pointer into $defs",
    "$id": "drop it",
    "contentEncoding": "use pattern",
    "contentMediaType": "use pattern",
    "contentSchema": "write the object in place of the encoded string",
}


def refuse_unknown(schema: Schema, allowed: Iterable[str], at: str) -> None:
    """Raise SchemaError for the first keyword of `schema` that is neither in `allowed` nor an annotation."""
    for keyword in schema:
        if keyword not in allowed and keyword not in ANNOTATIONS:
            others = ", ".join(sorted(allowed))
            raise SchemaError(at, keyword, INSTEAD.get(keyword, f"understood here: {others}"))
