"""Regular expressions as trees: what `pattern` is parsed to and what slot automata are built from.

The syntax is the common part of ECMA-262 and Python: literals, `.`, classes, groups, alternation and quantifiers.
`\\d`, `\\w`, `\\s` and their negations mean ASCII characters. Lookaround, backreferences, flags and `\\b` are not
regular or not portable.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache

from inference.diffusion.structured.schema.charsets import (
    ASCII,
    DIGITS,
    LAST_CODE_POINT,
    SPACE,
    WORD,
    Ranges,
    complement,
    intersection,
    union,
)


class RegexError(ValueError):
    """A regular expression outside the supported syntax."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other; no parts: the empty string."""

    parts: tuple[Regex, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Any of the options; no options: no string at all."""

    options: tuple[Regex, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`low` to `high` times the part; `high` None: without bound."""

    part: Regex
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """`^` or `$`."""

    at_start: bool


Regex = Chars | Sequence | Either | Repeat | Anchor

EMPTY = Sequence(())
NOTHING = Either(())

_CLASSES = {"d": DIGITS, "w": WORD, "s": SPACE}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}


@lru_cache(maxsize=1024)
def parse(pattern: str) -> Regex:
    """Parse `pattern`; raises RegexError."""
    return _Parser(pattern).parse()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def parse(self) -> Regex:
        tree = self.either()
        if self.at < len(self.pattern):
            raise RegexError(f"unbalanced ')' at {self.at}")
        return tree

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self, text: str) -> bool:
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise RegexError("the pattern ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def either(self) -> Regex:
        options = [self.sequence()]
        while self.take("|"):
            options.append(self.sequence())
        return options[0] if len(options) == 1 else Either(tuple(options))

    def sequence(self) -> Regex:
        parts: list[Regex] = []
        while self.at < len(self.pattern) and not self.peek("|") and not self.peek(")"):
            parts.append(self.quantified())
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def quantified(self) -> Regex:
        part = self.atom()
        bounds = self.quantifier()
        if bounds is None:
            return part
        if isinstance(part, Anchor):
            raise RegexError("a quantifier after ^ or $")
        self.take("?")  # lazy: the same language
        if self.peek("+") or self.peek("*"):
            raise RegexError("a quantifier after a quantifier")
        return Repeat(part, *bounds)

    def quantifier(self) -> tuple[int, int | None] | None:
        if self.take("*"):
            return 0, None
        if self.take("+"):
            return 1, None
        if self.take("?"):
            return 0, 1
        if not self.peek("{"):
            return None
        end = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : max(end, self.at)].partition(",")
        if end < 0 or not low.isdecimal() or not (high.isdecimal() or not high):
            raise RegexError(f"a brace at {self.at} that is no quantifier; write \\{{")
        self.at = end + 1
        bound = int(low) if not comma else int(high) if high else None
        if bound is not None and bound < int(low):
            raise RegexError("a quantifier with its bounds reversed")
        return int(low), bound

    def atom(self) -> Regex:
        character = self.next()
        match character:
            case "^" | "$":
                return Anchor(character == "^")
            case "(":
                return self.group()
            case "[":
                return Chars(self.char_class())
            case ".":
                return Chars(complement(((10, 10), (13, 13), (0x2028, 0x2029))))
            case "\\":
                return Chars(self.escape())
            case "*" | "+" | "?" | "{":
                raise RegexError(f"'{character}' with nothing before it")
            case _:
                return Chars(((ord(character), ord(character)),))

    def group(self) -> Regex:
        if self.take("?") and not self.take(":"):
            if not (self.take("P<") or self.take("<")) or self.peek("=") or self.peek("!"):
                raise RegexError("lookaround, flags or conditions")
            name_end = self.pattern.find(">", self.at)
            if name_end < 0:
                raise RegexError("a group name without its '>'")
            self.at = name_end + 1
        tree = self.either()
        if not self.take(")"):
            raise RegexError("unbalanced '('")
        return tree

    def escape(self) -> Ranges:
        character = self.next()
        if character.lower() in _CLASSES:
            ranges = _CLASSES[character.lower()]
            return ranges if character.islower() else intersection(complement(ranges), ASCII)
        if character in "xu":
            return (self.hexadecimal(2 if character == "x" else 4),)
        if character in _CONTROLS:
            return ((_CONTROLS[character], _CONTROLS[character]),)
        if character.isalnum():
            raise RegexError(f"'\\{character}'")
        return ((ord(character), ord(character)),)

    def hexadecimal(self, num_digits: int) -> tuple[int, int]:
        if self.take("{"):
            end = self.pattern.find("}", self.at)
            digits, self.at = self.pattern[self.at : max(end, self.at)], end + 1
        else:
            digits = self.pattern[self.at : self.at + num_digits]
            self.at += num_digits
        if not digits or not set(digits) <= set(string.hexdigits):
            raise RegexError("an escape without its hexadecimal digits")
        code_point = int(digits, 16)
        if code_point > LAST_CODE_POINT:
            raise RegexError("an escape beyond Unicode")
        return code_point, code_point

    def char_class(self) -> Ranges:
        negated = self.take("^")
        start = self.at
        ranges: list[tuple[int, int]] = []
        while not self.take("]"):
            low = self.class_atom()
            if not (self.peek("-") and not self.peek("-]")):
                ranges.extend(low)
                continue
            self.take("-")
            high = self.class_atom()
            if len(low) != 1 or len(high) != 1 or low[0][0] != low[0][1] or high[0][0] < low[0][0]:
                raise RegexError("a range in a class that is not from a lower to a higher one")
            ranges.append((low[0][0], high[0][1]))
        merged = union(ranges)
        if not negated:
            return merged
        # Engines differ in what \\d, \\w and \\s hold beyond ASCII, so their complement stays within it.
        shorthand = any(f"\\{name}" in self.pattern[start : self.at].lower() for name in _CLASSES)
        return intersection(complement(merged), ASCII) if shorthand else complement(merged)

    def class_atom(self) -> Ranges:
        character = self.next()
        if character == "[":
            raise RegexError("'[' in a class; write \\[")
        if character == "\\":
            if self.take("b"):
                return ((8, 8),)
            return self.escape()
        return ((ord(character), ord(character)),)


def lengths(tree: Regex) -> tuple[int, int | None]:
    """Shortest and longest string in code points; longest None: without bound."""
    match tree:
        case Chars():
            return 1, 1
        case Anchor():
            return 0, 0
        case Sequence(parts):
            bounds = [lengths(part) for part in parts]
            longest = [high for _, high in bounds if high is not None]
            return sum(low for low, _ in bounds), (
                sum(longest) if len(longest) == len(bounds) else None
            )
        case Either(options):
            bounds = [lengths(option) for option in options]
            longest = [high for _, high in bounds if high is not None]
            return min((low for low, _ in bounds), default=0), (
                max(longest, default=0) if len(longest) == len(bounds) else None
            )
        case Repeat(part, low, high):
            shortest, part_longest = lengths(part)
            bounded = high is not None and part_longest is not None
            return shortest * low, high * part_longest if bounded else None  # type: ignore[operator]


def char_sets(tree: Regex) -> frozenset[Ranges]:
    """All character sets in `tree`."""
    match tree:
        case Chars(ranges):
            return frozenset([ranges])
        case Anchor():
            return frozenset()
        case Sequence(children) | Either(children):
            return frozenset().union(*(char_sets(child) for child in children))
        case Repeat(part):
            return char_sets(part)


def size(tree: Regex) -> int:
    """Automaton positions once repetitions are written out; a set beyond ASCII counts its UTF-8 states."""
    match tree:
        case Chars(ranges):
            return 1 if not ranges or ranges[-1][1] < 0x80 else 8
        case Anchor():
            return 0
        case Sequence(children) | Either(children):
            return sum(size(child) for child in children)
        case Repeat(part, low, high):
            return size(part) * max(low + 1 if high is None else high, 1)


def text_of(tree: Regex) -> str:
    """`tree` in the syntax that both `parse` and the Rust regex crate read."""
    match tree:
        case Chars(ranges):
            return "[" + "".join(f"\\u{{{low:X}}}-\\u{{{high:X}}}" for low, high in ranges) + "]"
        case Anchor():
            raise AssertionError("anchors are resolved before a regex is compiled")
        case Sequence(parts):
            return "".join(text_of(part) for part in parts)
        case Either(options):
            return "(?:" + "|".join(text_of(option) for option in options) + ")"
        case Repeat(part, low, high):
            return f"(?:{text_of(part)}){{{low},{'' if high is None else high}}}"


def literal(text: str) -> str:
    """Regex of `text` itself."""
    return text_of(Sequence(tuple(Chars(((ord(char), ord(char)),)) for char in text)))
