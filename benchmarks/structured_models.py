"""A pydantic model of every schema, so that records are also validated the way a team's own code would do it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Annotated, Any, Literal, Union
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    TypeAdapter,
    create_model,
)

Schema = Mapping[str, Any]

FORMATS: dict[str, Any] = {
    "date": date,
    "time": time,
    "date-time": AwareDatetime,
    "uuid": UUID,
    # pydantic's EmailStr needs one more package
    "email": Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$")],
}
BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}


def validator_of(schema: Schema) -> TypeAdapter[Any]:
    """Validates JSON texts by pydantic's own types; `schema` is of the keywords in docs/schemas.md."""
    return TypeAdapter(_type(schema, schema))


def _type(schema: Schema, root: Schema) -> Any:
    if "$ref" in schema:
        target: Any = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        return _type(target, root)
    if "const" in schema or "enum" in schema:
        return _one_of(schema["enum"] if "enum" in schema else [schema["const"]])
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return _union([_type(branch, root) for branch in schema[keyword]])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return _union([_of_kind(kind, schema, root) for kind in kinds])


def _union(types: Sequence[Any]) -> Any:
    return Union[tuple(types)]  # noqa: UP007 -- the types are known at run time only


def _one_of(values: Sequence[Any]) -> Any:
    if all(isinstance(value, str) for value in values):
        return Literal[tuple(values)]
    texts = {json.dumps(value) for value in values}

    def check(value: Any) -> Any:
        assert json.dumps(value) in texts  # 1, 1.0 and true are three values
        return value

    return Annotated[Any, AfterValidator(check)]


def _of_kind(kind: str, schema: Schema, root: Schema) -> Any:
    if kind == "object":
        return _model(schema, root)
    if kind == "array":
        bounds = Field(min_length=schema.get("minItems"), max_length=schema.get("maxItems"))
        item = _type(schema["items"], root) if "items" in schema else Any
        return Annotated[list[item], bounds]  # type: ignore[valid-type]
    if kind == "string":
        if "format" in schema:
            return FORMATS[schema["format"]]
        keywords = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
        return Annotated[str, StringConstraints(**_renamed(schema, keywords))]
    if kind == "integer":
        return Annotated[int, Field(strict=True, **_renamed(schema, BOUNDS))]
    if kind == "number":  # decimals: tenths are no binary fractions
        bounds = _renamed(schema, BOUNDS).items()
        exact: dict[str, Any] = {name: Decimal(str(bound)) for name, bound in bounds}
        return Annotated[Decimal, Field(**exact)]
    return {"boolean": StrictBool, "null": None}[kind]


def _model(schema: Schema, root: Schema) -> Any:
    fields: dict[str, Any] = {}
    for number, (key, value) in enumerate(schema.get("properties", {}).items()):
        default = ... if key in schema.get("required", ()) else None
        fields[f"field_{number}"] = (_type(value, root), Field(default, alias=key))
    extra: Literal["allow", "forbid"] = (
        "allow" if schema.get("additionalProperties", True) else "forbid"
    )
    return create_model("Record", __config__=ConfigDict(extra=extra), **fields)


def _renamed(schema: Schema, names: Mapping[str, str]) -> dict[str, Any]:
    return {names[key]: value for key, value in schema.items() if key in names}
