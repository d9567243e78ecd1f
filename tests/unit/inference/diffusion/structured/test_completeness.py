"""Nothing valid is lost: what a generator of valid instances makes, the compiled slots accept in canonical form."""

import json
import re
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema
from jsonschema import Draft202012Validator

from inference.diffusion.structured.automata import TokenAutomaton
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.structured.schema.languages import canonical_text
from inference.diffusion.structured.schema.plan import write

NAMES = [
    "text_bounds text_null text_optional enum_mixed enum_blank enum_escapes enum_large boolean",
    "integer integer_large integer_multiple number number_cents number_tenths number_open_interval",
    "pattern_plate pattern_counted pattern_prefix_alternatives pattern_null pattern_unanchored",
    "format_date format_time format_date_time format_email format_uuid any_of_scalars one_of_scalars",
    "any_of_numbers type_list nested nested_optional nested_null array_enum array_text array_of_null",
    "array_of_objects array_null union_tagged union_null union_in_array refs quality_assurance",
]


ADDRESS = re.compile(r"[a-z0-9]+([._+-][a-z0-9]+)*@([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,}")


def canonical(value, schema_text):
    """The documented canonical form of what is in `value`; None for what slots do not write at all."""
    if isinstance(value, dict):
        items = {key: canonical(item, schema_text) for key, item in value.items()}
        lost = any(items[key] is None is not value[key] for key in items)
        return None if lost else items
    if isinstance(value, list):
        items = [canonical(item, schema_text) for item in value]
        return (
            None
            if any(item is None is not old for item, old in zip(items, value, strict=True))
            else items
        )
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return _number(value)
    return _string(value, schema_text)


def _number(value):
    """At most 12 digits before the point and 4 after it."""
    if abs(value) >= 10**12 - 1:
        return None
    rounded = Decimal(repr(value)).quantize(Decimal("0.0001"), ROUND_HALF_EVEN)
    return int(rounded) if rounded == int(rounded) else float(rounded)


def _string(value, schema_text):
    if json.dumps(value, ensure_ascii=False) in schema_text:
        return value
    if '"format":"time"' in schema_text or '"format":"date-time"' in schema_text:
        return re.sub(r"\.\d+", "", value.upper()).replace(":60", ":59")
    if '"format":"email"' in schema_text:
        return value.lower() if ADDRESS.fullmatch(value.lower()) else None
    if '"format":"uuid"' in schema_text:
        return value.lower()
    if "pattern" in schema_text:  # classes like \d mean ASCII, and counted texts whole characters
        is_writable = value.isascii() and value.isprintable() and not {'"', "\\"} & set(value)
        return value if is_writable else None
    is_writable = all(ord(c) < 0x40000 and not 0xD800 <= ord(c) < 0xF900 for c in value)
    return canonical_text(value) or None if is_writable else None


def instances(schema, definitions):
    """Valid instances. hypothesis-jsonschema 0.23 makes the scalars; its objects need an older hypothesis."""
    if "$ref" in schema:
        return instances(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return st.one_of([instances(option, definitions) for option in options])
    if schema.get("type") == "object":
        required = schema["required"]
        values = {k: instances(v, definitions) for k, v in schema["properties"].items()}
        return st.fixed_dictionaries(
            {key: values[key] for key in required},
            optional={key: value for key, value in values.items() if key not in required},
        )
    if schema.get("type") == "array" and schema["maxItems"]:
        bounds = {"min_size": schema["minItems"], "max_size": schema["maxItems"]}
        return st.lists(instances(schema["items"], definitions), **bounds)
    if schema.get("x-evidence"):
        return st.integers(1, 999)
    if schema.get("format") == "uuid":  # unknown to hypothesis-jsonschema
        return st.uuids().map(str)
    return from_schema(schema)


@pytest.mark.parametrize("name", " ".join(NAMES).split())
def test_valid_instances_are_accepted(crossing_tokenizer, schemas, name):
    schema = schemas[name]
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    scaffold = compile_scaffold(schema, crossing_tokenizer, instructions="", name=name, num_turns=9)
    exact_schema = json.loads(text, parse_float=Decimal)
    checker = Draft202012Validator.FORMAT_CHECKER
    validator = Draft202012Validator(exact_schema, format_checker=checker)

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(instances(schema, schema.get("$defs", {})))
    def accepted(instance):
        value = canonical(instance, text)
        assume(value is not None)
        assume(validator.is_valid(json.loads(json.dumps(value), parse_float=Decimal)))
        texts = [""] * len(scaffold.spans)
        write(scaffold.plan.root, value, texts)
        for span, slot_text in zip(scaffold.spans, texts, strict=True):
            tokens = crossing_tokenizer.encode(slot_text) if slot_text else []
            if isinstance(span.table, TokenAutomaton) and (
                slot_text or span.slot.condition is None
            ):
                padded = [*tokens, crossing_tokenizer.pad_token_id]
                assert span.table.accepts(padded), (span.slot.pointer, slot_text)

    accepted()
