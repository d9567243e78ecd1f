"""What cannot be guaranteed is refused when the schema is compiled, with its place and a way out."""

import pytest

from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.structured.schema import SchemaError, compile_plan

TEXT = {"type": "string"}
INTEGER = {"type": "integer"}


def record(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


CARD = record(kind={"const": "card"}, n=INTEGER)
CASH = record(kind={"const": "cash"}, n=INTEGER)
RECURSIVE = {"$defs": {"N": record(next={"$ref": "#/$defs/N"})}, **record(a={"$ref": "#/$defs/N"})}

REFUSED = {
    "root is no object": ({"type": "array", "items": TEXT, "maxItems": 2}, "", "type"),
    "root may be null": ({"anyOf": [record(), {"type": "null"}]}, "", "type"),
    "no type": (record(a={"minLength": 2}), "/properties/a", "minLength"),
    "anything": (record(a={}), "/properties/a", "true"),
    "boolean schema": (record(a=True), "/properties/a", "true"),
    "unknown type": (record(a={"type": "text"}), "/properties/a", "type"),
    "unknown keyword": (record(a={**TEXT, "maxlength": 3}), "/properties/a", "maxlength"),
    "keyword of another type": (
        record(a={**INTEGER, "maxLength": 3}),
        "/properties/a",
        "maxLength",
    ),
    "allOf": (record(a={"allOf": [TEXT]}), "/properties/a", "allOf"),
    "not": (record(a={**TEXT, "not": {"const": "x"}}), "/properties/a", "not"),
    "if": ({**record(), "if": {}}, "", "if"),
    "patternProperties": ({**record(), "patternProperties": {}}, "", "patternProperties"),
    "a map": (
        record(a={"type": "object", "additionalProperties": TEXT}),
        "/properties/a",
        "additionalProperties",
    ),
    "undescribed required": ({**record(), "required": ["a"]}, "", "required"),
    "minProperties": ({**record(), "minProperties": 1}, "", "minProperties"),
    "array without maxItems": (record(a={"type": "array", "items": TEXT}), "/properties/a", "type"),
    "array without items": (
        record(a={"type": "array", "maxItems": 2}),
        "/properties/a",
        "maxItems",
    ),
    "reversed items": (
        record(a={"type": "array", "items": TEXT, "minItems": 3, "maxItems": 2}),
        "/properties/a",
        "maxItems",
    ),
    "uniqueItems": (
        record(a={"type": "array", "items": TEXT, "maxItems": 2, "uniqueItems": True}),
        "/properties/a",
        "uniqueItems",
    ),
    "prefixItems": (
        record(a={"type": "array", "maxItems": 2, "prefixItems": [TEXT]}),
        "/properties/a",
        "prefixItems",
    ),
    "too many slots": (
        record(a={"type": "array", "items": TEXT, "maxItems": 513}),
        "/properties/a/items",
        "maxItems",
    ),
    "recursion": (RECURSIVE, "/$defs/N/properties/next", "$ref"),
    "reference elsewhere": (record(a={"$ref": "other.json"}), "/properties/a", "$ref"),
    "missing reference": (record(a={"$ref": "#/$defs/A"}), "/properties/a", "$ref"),
    "beside a reference": (
        {"$defs": {"A": TEXT}, **record(a={"$ref": "#/$defs/A", "maxLength": 3})},
        "/properties/a",
        "maxLength",
    ),
    "beside anyOf": (record(a={"anyOf": [TEXT], "minLength": 1}), "/properties/a", "minLength"),
    "object and text": (record(a={"anyOf": [CARD, TEXT]}), "/properties/a", "anyOf"),
    "objects without tag": (
        record(a={"oneOf": [record(x=TEXT), record(y=TEXT)]}),
        "/properties/a",
        "oneOf",
    ),
    "tag of two objects": (record(a={"oneOf": [CARD, CARD]}), "/properties/a", "oneOf"),
    "array and object": (
        record(a={"anyOf": [CARD, {"type": "array", "maxItems": 0}]}),
        "/properties/a",
        "anyOf",
    ),
    "array or text by type": (record(a={"type": ["array", "string"]}), "/properties/a", "type"),
    "two nulls": (
        record(a={"oneOf": [{"anyOf": [CARD, {"type": "null"}]}, {"type": "null"}]}),
        "/properties/a",
        "oneOf",
    ),
    "overlapping oneOf": (record(a={"oneOf": [TEXT, {"const": "x"}]}), "/properties/a", "oneOf"),
    "overlapping numbers": (
        record(a={"oneOf": [INTEGER, {"type": "number"}]}),
        "/properties/a",
        "oneOf",
    ),
    "nothing exactly once": (
        record(a={"oneOf": [{"const": 1}, {"const": 1}]}),
        "/properties/a",
        "oneOf",
    ),
    "two texts": (record(a={"anyOf": [TEXT, {**TEXT, "maxLength": 3}]}), "/properties/a", "anyOf"),
    "text like text": (record(a={"anyOf": [TEXT, {"const": " x"}]}), "/properties/a", "enum"),
    "lookahead": (record(a={**TEXT, "pattern": "(?=x)"}), "/properties/a", "pattern"),
    "quote alone": (record(a={**TEXT, "pattern": '^"$'}), "/properties/a", "pattern"),
    "pattern and format": (
        record(a={**TEXT, "pattern": "x", "format": "date"}),
        "/properties/a",
        "format",
    ),
    "unknown format": (record(a={**TEXT, "format": "uri"}), "/properties/a", "format"),
    "reversed lengths": (
        record(a={**TEXT, "minLength": 3, "maxLength": 2}),
        "/properties/a",
        "maxLength",
    ),
    "pattern too long": (
        record(a={**TEXT, "pattern": "^abc$", "maxLength": 2}),
        "/properties/a",
        "maxLength",
    ),
    "pattern too short": (
        record(a={**TEXT, "pattern": "^abc$", "minLength": 4}),
        "/properties/a",
        "minLength",
    ),
    "huge pattern": (record(a={**TEXT, "pattern": "^(ab?c){1,400}$"}), "/properties/a", "pattern"),
    "exponential pattern": (
        record(a={**TEXT, "pattern": "^[ab]*a[ab]{16}$"}),
        "/properties/a",
        "pattern",
    ),
    "object in enum": (record(a={"enum": [{}, 1]}), "/properties/a", "enum"),
    "control character": (record(a={"const": "a\nb"}), "/properties/a", "const"),
    "enum against type": (record(a={"type": "string", "enum": [1, 2]}), "/properties/a", "enum"),
    "enum and pattern": (record(a={"enum": ["x"], "pattern": "x"}), "/properties/a", "pattern"),
    "empty range": (record(a={**INTEGER, "minimum": 3, "maximum": 2}), "/properties/a", "minimum"),
    "empty grid": (
        record(a={**INTEGER, "multipleOf": 7, "minimum": 1, "maximum": 6}),
        "/properties/a",
        "minimum",
    ),
    "odd multiple without bounds": (
        record(a={"type": "number", "multipleOf": 0.3}),
        "/properties/a",
        "multipleOf",
    ),
    "multiple of 0": (record(a={**INTEGER, "multipleOf": 0}), "/properties/a", "multipleOf"),
    "Draft 4 bound": (
        record(a={**INTEGER, "minimum": 0, "exclusiveMinimum": True}),
        "/properties/a",
        "exclusiveMinimum",
    ),
    "unknown evidence": (
        record(a={**INTEGER, "x-evidence": "word"}),
        "/properties/a",
        "x-evidence",
    ),
    "evidence beside values": (
        record(a={"anyOf": [{**INTEGER, "x-evidence": "turn"}, {"const": -1}]}),
        "/properties/a",
        "x-evidence",
    ),
    "length of a value set": (
        record(a={**INTEGER, "minimum": 0, "maximum": 9, "x-slot-tokens": 3}),
        "/properties/a",
        "x-slot-tokens",
    ),
    "slot of no length": (record(a={**TEXT, "x-slot-tokens": 0}), "/properties/a", "x-slot-tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_place_and_what_to_use_instead(name):
    schema, pointer, keyword = REFUSED[name]
    with pytest.raises(SchemaError) as error:
        compile_plan(schema)
    assert (error.value.pointer, error.value.keyword) == (pointer, keyword)
    assert len(error.value.instead) > 5
    assert error.value.instead in str(error.value)


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({**TEXT, "minLength": 60, "x-slot-tokens": 1}, "x-slot-tokens"),
        ({**TEXT, "pattern": "^[0-9a-f]{16}$", "x-slot-tokens": 1}, "x-slot-tokens"),
        ({"enum": [f"{n} {'word ' * 40}" for n in range(1500)]}, "enum"),
    ],
)
def test_refused_for_what_the_tokenizer_makes_of_it(tokenizer, schema, keyword):
    with pytest.raises(SchemaError) as error:
        compile_scaffold(record(a=schema), tokenizer, instructions="", name="x", num_turns=3)
    assert (error.value.pointer, error.value.keyword) == ("/properties/a", keyword)


def test_a_turn_must_be_cited_but_there_is_none(tokenizer):
    schema = record(a={**INTEGER, "x-evidence": "turn"})
    with pytest.raises(SchemaError) as error:
        compile_scaffold(schema, tokenizer, instructions="", name="x", num_turns=0)
    assert error.value.keyword == "x-evidence"
    assert (
        compile_scaffold(schema, tokenizer, instructions="", name="x", num_turns=1).num_turns == 1
    )
