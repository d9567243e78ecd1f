"""The `pattern` keyword: from an unanchored search over any text to a full match over writable text."""

from __future__ import annotations

from inference.diffusion.structured.schema.charsets import WRITABLE, intersection
from inference.diffusion.structured.schema.regex import (
    EMPTY,
    NOTHING,
    Anchor,
    Chars,
    Either,
    Regex,
    RegexError,
    Repeat,
    Sequence,
    parse,
)

ANYTHING = Repeat(Chars(WRITABLE), 0, None)


def full_match(pattern: str) -> Regex:
    """The strings that `pattern` is found in, as far as a slot can write them.

    Raises:
        RegexError: the syntax is not supported, `^` or `$` stand inside the pattern, or no writable string matches.
    """
    tree = parse(pattern)
    options = tree.options if isinstance(tree, Either) else (tree,)
    writable = _simplify(Either(tuple(_anchored(option) for option in options)))
    if writable == NOTHING:
        raise RegexError("no text without quotes, backslashes and control characters matches")
    return writable


def _anchored(option: Regex) -> Regex:
    parts = option.parts if isinstance(option, Sequence) else (option,)
    if len(parts) == 1 and isinstance(parts[0], Either):
        return Either(tuple(_anchored(inner) for inner in parts[0].options))
    starts = bool(parts) and parts[0] == Anchor(at_start=True)
    ends = bool(parts) and parts[-1] == Anchor(at_start=False)
    inner = parts[starts : len(parts) - ends]
    return Sequence((*(() if starts else (ANYTHING,)), *inner, *(() if ends else (ANYTHING,))))


def _simplify(tree: Regex) -> Regex:
    """Keep writable characters only, and drop what then matches nothing."""
    match tree:
        case Anchor():
            raise RegexError("^ or $ inside the pattern")
        case Chars(ranges):
            kept = intersection(ranges, WRITABLE)
            return Chars(kept) if kept else NOTHING
        case Sequence(parts):
            simple = tuple(part for part in map(_simplify, parts) if part != EMPTY)
            if NOTHING in simple:
                return NOTHING
            return simple[0] if len(simple) == 1 else Sequence(simple)
        case Either(options):
            kept_options = tuple(option for option in map(_simplify, options) if option != NOTHING)
            return kept_options[0] if len(kept_options) == 1 else Either(kept_options)
        case Repeat(part, low, high):
            inner = _simplify(part)
            if inner == NOTHING:
                return NOTHING if low else EMPTY
            return EMPTY if inner == EMPTY or high == 0 else Repeat(inner, low, high)
