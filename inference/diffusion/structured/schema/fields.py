"""From the alternatives of a scalar field to the one language of its slot."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from inference.diffusion.structured.schema.errors import SchemaError
from inference.diffusion.structured.schema.languages import (
    FREE_TEXT,
    Choices,
    Empty,
    Language,
    Regular,
)
from inference.diffusion.structured.schema.numbers import Grid, grid_regex
from inference.diffusion.structured.schema.regex import Regex, char_sets, lengths, literal, text_of
from inference.diffusion.structured.schema.scalars import (
    Alternative,
    FreeText,
    Numbers,
    Strings,
    Turns,
    Values,
    unique,
)
from inference.diffusion.structured.schema.values import (
    ABSENT,
    Absent,
    Scalar,
    json_text,
    same_value,
)

DEFAULT_CHARACTERS = 102  # free text without maxLength: two short sentences in 32 tokens
DEFAULT_PATTERN_CHARACTERS = 32  # strings of a pattern without bound


class Presence(enum.Enum):
    """Whether a value may be missing, and whether null says so as well."""

    REQUIRED = "required"
    OPTIONAL = "optional"  # property: missing and null are one where null is allowed
    ITEM = "item"  # array item: null is an item of its own


def field_language(
    options: Sequence[Alternative], presence: Presence, *, exclusive: bool, at: str
) -> Language:
    """The language of a slot that holds one of `options`; with `exclusive` (oneOf) exactly one must allow the value.

    Raises:
        SchemaError: the options cannot be told apart.
    """
    listed = [value for option in options if isinstance(option, Values) for value in option.values]
    open_ended = [option for option in options if not isinstance(option, Values)]
    if exclusive:
        _refuse_overlap(open_ended, listed, at)
        listed = [v for v in listed if sum(same_value(v, other) for other in listed) == 1]
        if not listed and not open_ended:
            raise SchemaError(at, "oneOf", "use anyOf: no value is in exactly one of the options")
    values = unique(listed)
    has_null = None in values
    missing = presence is Presence.ITEM or (presence is Presence.OPTIONAL and not has_null)
    if any(isinstance(option, Turns) for option in open_ended):
        return _turn_choices(open_ended, values, missing=missing, at=at)
    quoted = _only_strings(values, open_ended) and not (
        (has_null and missing) or ("" in values and (has_null or missing))
    )
    texts = _texts(values, missing=missing, quoted=quoted)
    if not open_ended:
        return Choices(tuple(texts), tuple(texts.values()), quoted)
    return _regular(open_ended, texts, quoted=quoted, at=at)


def _only_strings(values: Sequence[Scalar], open_ended: Sequence[Alternative]) -> bool:
    return all(value is None or isinstance(value, str) for value in values) and not any(
        isinstance(option, Numbers) for option in open_ended
    )


def _texts(values: Sequence[Scalar], *, missing: bool, quoted: bool) -> dict[str, Scalar | Absent]:
    """Text to value; a missing value is an empty slot, or `null` where that is free and reads better."""
    texts: dict[str, Scalar | Absent] = {}
    for value in values:
        text = json_text(value)
        texts[(text[1:-1] if isinstance(value, str) else "") if quoted else text] = value
    if missing:
        texts["" if quoted or "null" in texts else "null"] = ABSENT
    return texts


def _turn_choices(
    open_ended: Sequence[Alternative], values: Sequence[Scalar], *, missing: bool, at: str
) -> Choices:
    if len(open_ended) > 1 or any(value is not None for value in values):
        raise SchemaError(at, "x-evidence", "an evidence turn can be mixed with null only")
    (turns,) = open_ended
    assert isinstance(turns, Turns)
    texts = _texts(values, missing=missing, quoted=False)
    numbers = range(turns.lowest, turns.highest + 1)
    return Choices(
        (*texts, *map(str, numbers)), (*texts.values(), *numbers), quoted=False, cites_turns=True
    )


def _regular(
    open_ended: Sequence[Alternative],
    texts: dict[str, Scalar | Absent],
    *,
    quoted: bool,
    at: str,
) -> Regular:
    _refuse_ambiguous(open_ended, texts, at)
    free = next((option for option in open_ended if isinstance(option, FreeText)), None)
    counted = any(isinstance(option, Strings) and option.counted for option in open_ended)
    if counted and (len(open_ended) > 1 or texts.keys() - {""} or not quoted):
        raise SchemaError(at, "maxLength", "beside other alternatives, write the length in pattern")
    strings = [option for option in open_ended if isinstance(option, Strings)]
    empty = Empty.of(texts.pop("")) if "" in texts else Empty.REFUSED
    if empty is Empty.REFUSED and any(_allows_blank(option) for option in strings) and quoted:
        empty = Empty.BLANK
    quote = "" if quoted else '"'
    pieces = [_regex(option, quote) for option in open_ended] + [literal(text) for text in texts]
    bounds = free or (open_ended[0] if len(open_ended) == 1 else None)
    return Regular(
        regex=pieces[0] if len(pieces) == 1 else f"(?:{'|'.join(pieces)})",
        quoted=quoted,
        empty=empty,
        num_characters=max([_room(option) for option in open_ended] + [len(t) for t in texts]),
        free_text=free is not None,
        min_length=bounds.min_length if isinstance(bounds, Strings | FreeText) else 0,
        max_length=bounds.max_length if isinstance(bounds, Strings | FreeText) else None,
        counted=counted or (free is not None and free.min_length > 1),
        specials=tuple(texts.items()),
    )


def _allows_blank(option: Strings) -> bool:
    return lengths(option.tree)[0] == 0 and option.min_length == 0


def _regex(option: Alternative, quote: str) -> str:
    match option:
        case FreeText():
            return quote + FREE_TEXT + quote
        case Strings(tree):
            return quote + text_of(tree) + quote
        case Numbers(numbers):
            return grid_regex(numbers)
    raise AssertionError(option)


def _room(option: Alternative) -> int:
    match option:
        case FreeText(_, longest):
            return DEFAULT_CHARACTERS if longest is None else longest
        case Strings(tree, low, high):
            longest = lengths(tree)[1]
            bounds = [bound for bound in (longest, high) if bound is not None]
            return _num_bytes(tree) * min(bounds, default=max(DEFAULT_PATTERN_CHARACTERS, low))
        case Numbers(numbers):
            return _widest(numbers)
    raise AssertionError(option)


def _num_bytes(tree: Regex) -> int:
    """Bytes of a character where the language is not in ASCII: its tokens may be no longer than a byte."""
    lowest = [ranges[0][0] for ranges in char_sets(tree) if ranges]
    return max((len(chr(code_point).encode()) for code_point in lowest), default=1)


def _widest(numbers: Grid) -> int:
    ends = (numbers.lowest, numbers.highest)
    decimals = numbers.num_decimals or 0
    unit = 10**decimals
    return max(len(str(abs(end) // unit)) + (end < 0) for end in ends) + (decimals and decimals + 1)


def _refuse_ambiguous(
    open_ended: Sequence[Alternative], texts: dict[str, Scalar | Absent], at: str
) -> None:
    free = [option for option in open_ended if isinstance(option, FreeText)]
    strings = [option for option in open_ended if isinstance(option, Strings)]
    if len(free) > 1 or (free and strings):
        raise SchemaError(
            at, "anyOf", "one string without pattern or format already allows the rest"
        )
    if free and any(text.startswith((" ", '" ')) for text in texts):
        raise SchemaError(at, "enum", "beside free text, no value may begin with a space")
    if free and (len(open_ended) > 1 or texts.keys() - {""}) and free[0].min_length > 1:
        raise SchemaError(at, "minLength", "beside other alternatives, at most 1")


def _refuse_overlap(open_ended: Sequence[Alternative], listed: Sequence[Scalar], at: str) -> None:
    strings = [option for option in open_ended if isinstance(option, FreeText | Strings)]
    numbers = [option for option in open_ended if isinstance(option, Numbers)]
    has_string = any(isinstance(value, str) for value in listed)
    has_number = any(isinstance(v, int | float) and not isinstance(v, bool) for v in listed)
    overlap = any(
        one.grid.overlaps(other.grid) for i, one in enumerate(numbers) for other in numbers[:i]
    )
    if len(strings) > 1 or (strings and has_string) or overlap or (numbers and has_number):
        raise SchemaError(at, "oneOf", "use anyOf: options of one type cannot be kept apart")
