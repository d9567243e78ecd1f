"""From the subschemas of scalars to alternatives: value sets, texts, ranges of numbers and turns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from inference.diffusion.structured.schema.determinism import needs_more_states
from inference.diffusion.structured.schema.errors import SchemaError
from inference.diffusion.structured.schema.formats import FORMATS
from inference.diffusion.structured.schema.keywords import BY_TYPE, Schema, refuse_unknown
from inference.diffusion.structured.schema.languages import MAX_SCORED_CHOICES
from inference.diffusion.structured.schema.numbers import (
    DEFAULT_STEP,
    Grid,
    common_step,
    exact,
    grid,
    number_of,
)
from inference.diffusion.structured.schema.patterns import full_match
from inference.diffusion.structured.schema.regex import (
    Chars,
    Regex,
    RegexError,
    Repeat,
    lengths,
    parse,
    size,
)
from inference.diffusion.structured.schema.values import Scalar, same_value

MAX_TURN = 999
"""Highest turn that an evidence slot can cite: three digits, more turns than any prompt holds."""

MAX_PATTERN_SIZE = 512  # positions and states of its automaton; a date and time has 86
MAX_WRITTEN_OUT = 16  # a set repeated more often is counted; beside others it must be written out
MAX_COUNTED_LENGTH = 64  # a slot has at most 64 tokens, and the counter one state per character


@dataclass(frozen=True, slots=True)
class Values:
    """A set of values."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class FreeText:
    """Any text of `min_length` to `max_length` code points."""

    min_length: int
    max_length: int | None


@dataclass(frozen=True, slots=True)
class Strings:
    """The strings of a regular language; `counted` when its lengths are not kept by the language itself."""

    tree: Regex
    min_length: int
    max_length: int | None
    counted: bool


@dataclass(frozen=True, slots=True)
class Numbers:
    """More numbers of a grid than can be listed."""

    grid: Grid


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns of the transcript, from `lowest` to `highest`."""

    lowest: int
    highest: int


Alternative = Values | FreeText | Strings | Numbers | Turns


def alternatives(schema: Schema, at: str) -> list[Alternative]:
    """What a subschema without anyOf, oneOf and $ref allows; `at` is its JSON pointer.

    Raises:
        SchemaError: it is no scalar, or holds a keyword that is not supported.
    """
    if "const" in schema or "enum" in schema:
        return [_listed(schema, at)]
    if "type" not in schema:
        raise SchemaError(at, next(iter(schema), "true"), "say the type")
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    unknown = [name for name in types if name not in BY_TYPE]
    if unknown or not types:
        raise SchemaError(at, "type", f"known types: {', '.join(BY_TYPE)}")
    refuse_unknown(schema, {"type"}.union(*(BY_TYPE[name] for name in types)), at)
    return [_of_type(name, schema, at) for name in types]


def _of_type(name: str, schema: Schema, at: str) -> Alternative:
    match name:
        case "null":
            return Values((None,))
        case "boolean":
            return Values((True, False))
        case "string":
            return _strings(schema, at)
        case "integer" if "x-evidence" in schema:
            return _turns(schema, at)
        case "integer" | "number":
            return _numbers(name, schema, at)
    raise SchemaError(
        at, "type", f"an {name} cannot be mixed with scalars; use it alone or with null"
    )


def _listed(schema: Schema, at: str) -> Values:
    keyword = "const" if "const" in schema else "enum"
    refuse_unknown(schema, {"const", "enum", "type", "minLength", "maxLength"}, at)
    values = [schema["const"]] if "const" in schema else schema["enum"]
    if "const" in schema and "enum" in schema:
        values = [value for value in schema["enum"] if same_value(value, schema["const"])]
    for value in values:
        if isinstance(value, (dict, list)):
            raise SchemaError(at, keyword, "list scalars only; use oneOf for several objects")
        if isinstance(value, str) and not value.isprintable():
            raise SchemaError(at, keyword, "use values without control characters")
    types = schema.get("type", list(BY_TYPE))
    types = [types] if isinstance(types, str) else types
    low, high = length_bounds(schema, at)
    kept = [
        value
        for value in unique(values)
        if any(_has_type(value, name) for name in types)
        and not (isinstance(value, str) and not low <= len(value) <= (high or len(value)))
    ]
    if not kept:
        raise SchemaError(at, keyword, "give at least one value that the other keywords allow")
    return Values(tuple(kept))


def unique(values: Iterable[Scalar]) -> list[Scalar]:
    """`values` without those that JSON Schema holds equal to an earlier one."""
    kept: list[Scalar] = []
    for value in values:
        if not any(same_value(value, other) for other in kept):
            kept.append(value)
    return kept


def _has_type(value: Scalar, name: str) -> bool:
    match value:
        case None:
            return name == "null"
        case bool():
            return name == "boolean"
        case str():
            return name == "string"
        case _:
            return name == "number" or (name == "integer" and float(value).is_integer())


def length_bounds(schema: Schema, at: str) -> tuple[int, int | None]:
    """`minLength` and `maxLength` of `schema`."""
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    if high is not None and high < low:
        raise SchemaError(at, "maxLength", "let it be no less than minLength")
    return low, high


def _strings(schema: Schema, at: str) -> Alternative:
    low, high = length_bounds(schema, at)
    if high == 0:
        return Values(("",))
    if "pattern" in schema and "format" in schema:
        raise SchemaError(at, "format", "use either pattern or format")
    if "format" in schema:
        if schema["format"] not in FORMATS:
            raise SchemaError(at, "format", f"supported: {', '.join(FORMATS)}; or use pattern")
        tree = parse(FORMATS[schema["format"]])
    elif "pattern" in schema:
        try:
            tree = full_match(schema["pattern"])
        except RegexError as error:
            reason = f"{error}; use a regular pattern, or enum"
            raise SchemaError(at, "pattern", reason) from error
    else:
        return FreeText(low, high)
    return _regular_strings(tree, low, high, "format" if "format" in schema else "pattern", at)


def _regular_strings(tree: Regex, low: int, high: int | None, keyword: str, at: str) -> Strings:
    match tree:
        case Repeat(Chars() as part, fewest, int() as most) if most > MAX_WRITTEN_OUT:
            tree = Repeat(part, 0, None)
            low, high = max(low, fewest), most if high is None else min(high, most)
    if size(tree) > MAX_PATTERN_SIZE:
        raise SchemaError(at, keyword, "use * and minLength, maxLength for long repetitions")
    if needs_more_states(tree, MAX_PATTERN_SIZE):
        instead = "write it so that each character tells how to go on: its automaton is too large"
        raise SchemaError(at, keyword, instead)
    shortest, longest = lengths(tree)
    too_long = longest is not None and longest < low
    if too_long or (high is not None and high < max(shortest, low)):
        raise SchemaError(at, "minLength" if high is None else "maxLength", f"fit it to {keyword}")
    counted = shortest < low or (high is not None and (longest is None or longest > high))
    if counted and max(low, shortest) > MAX_COUNTED_LENGTH:
        raise SchemaError(at, "minLength", f"at most {MAX_COUNTED_LENGTH} beside {keyword}")
    if counted:
        high = min(high or MAX_COUNTED_LENGTH, MAX_COUNTED_LENGTH)
    return Strings(tree, low, high, counted)


def _turns(schema: Schema, at: str) -> Turns:
    if schema["x-evidence"] != "turn":
        raise SchemaError(at, "x-evidence", 'the only evidence is "turn"')
    refuse_unknown(schema, {"type", "x-evidence", "minimum", "maximum"}, at)
    turns = Turns(max(schema.get("minimum", 1), 1), min(schema.get("maximum", MAX_TURN), MAX_TURN))
    if turns.highest < turns.lowest:
        raise SchemaError(at, "maximum", f"turns run from 1 to {MAX_TURN}")
    return turns


def _numbers(name: str, schema: Schema, at: str) -> Alternative:
    def bound(keyword: str) -> Fraction | None:
        value = schema.get(keyword)
        if isinstance(value, bool):
            raise SchemaError(at, keyword, "give the bound itself, as Draft 2020-12 has it")
        return None if value is None else exact(value)

    step = bound("multipleOf")
    if step is not None and step <= 0:
        raise SchemaError(at, "multipleOf", "let it be above 0")
    if name == "integer":
        step = common_step(step or Fraction(1), Fraction(1))
    numbers = grid(
        step or DEFAULT_STEP,
        bound("minimum"),
        bound("maximum"),
        bound("exclusiveMinimum"),
        bound("exclusiveMaximum"),
    )
    if not numbers:
        keyword = next((word for word in schema if "imum" in word), "multipleOf")
        raise SchemaError(at, keyword, f"leave room for a multiple of {float(numbers.step):g}")
    if not numbers.has_decimal_text:
        raise SchemaError(at, "multipleOf", "use a decimal number")
    if len(numbers) <= MAX_SCORED_CHOICES:
        return Values(tuple(number_of(text) for text in numbers.texts()))
    if numbers.num_decimals is None:
        instead = f"use 1, 0.1, 0.01 …, or bounds that leave {MAX_SCORED_CHOICES} values"
        raise SchemaError(at, "multipleOf", instead)
    return Numbers(numbers)
