"""How many states a regex needs when it is made deterministic: some short ones need millions."""

from __future__ import annotations

from dataclasses import dataclass

from inference.diffusion.structured.schema.charsets import Ranges
from inference.diffusion.structured.schema.regex import (
    Anchor,
    Chars,
    Either,
    Regex,
    Repeat,
    Sequence,
)


@dataclass(frozen=True, slots=True)
class _Part:
    """Positions (bits) that a part of the regex can begin and end with, and whether it matches the empty string."""

    first: int
    last: int
    nullable: bool


_NOTHING_READ = _Part(0, 0, True)


def needs_more_states(tree: Regex, limit: int) -> bool:
    """Whether the deterministic automaton of `tree` over code points has more than `limit` states.

    Glushkov's position automaton, then the subset construction up to the limit.
    """
    positions = _Positions()
    whole = positions.walk(tree)
    symbols = positions.symbols()
    seen: set[int] = set()
    frontier = {whole.first & symbol for symbol in symbols}
    while frontier and len(seen) <= limit:
        state = frontier.pop()
        seen.add(state)
        reach = positions.following(state)
        frontier |= {reach & symbol for symbol in symbols} - seen
    return len(seen) > limit


class _Positions:
    """One bit per character set of the written-out regex, and which positions follow which."""

    def __init__(self) -> None:
        self.sets: list[Ranges] = []
        self.follow: list[int] = []

    def walk(self, tree: Regex) -> _Part:
        match tree:
            case Chars(ranges):
                self.sets.append(ranges)
                self.follow.append(0)
                bit = 1 << (len(self.sets) - 1)
                return _Part(bit, bit, False)
            case Anchor():
                return _NOTHING_READ
            case Sequence(parts):
                whole = _NOTHING_READ
                for part in parts:
                    whole = self.join(whole, self.walk(part))
                return whole
            case Either(options):
                walked = [self.walk(option) for option in options]
                first = last = 0
                for option in walked:
                    first, last = first | option.first, last | option.last
                return _Part(first, last, any(option.nullable for option in walked))
            case Repeat(part, low, high):
                return self.repeat(part, low, high)

    def repeat(self, part: Regex, low: int, high: int | None) -> _Part:
        whole = _NOTHING_READ
        for number in range(max(low, 1) if high is None else high):
            once = self.walk(part)
            if number >= low:
                once = _Part(once.first, once.last, True)
            if high is None and number == max(low, 1) - 1:
                self.link(once.last, once.first)
            whole = self.join(whole, once)
        return whole

    def join(self, left: _Part, right: _Part) -> _Part:
        self.link(left.last, right.first)
        return _Part(
            left.first | (right.first if left.nullable else 0),
            right.last | (left.last if right.nullable else 0),
            left.nullable and right.nullable,
        )

    def link(self, sources: int, targets: int) -> None:
        for position in _bits(sources):
            self.follow[position] |= targets

    def following(self, state: int) -> int:
        reach = 0
        for position in _bits(state):
            reach |= self.follow[position]
        return reach

    def symbols(self) -> set[int]:
        """For every kind of character that the sets tell apart, the positions that read it."""
        cuts = sorted(
            {end for ranges in self.sets for low, high in ranges for end in (low, high + 1)}
        )
        return {
            sum(
                1 << position
                for position, ranges in enumerate(self.sets)
                if any(low <= cut <= high for low, high in ranges)
            )
            for cut in cuts
        }


def _bits(number: int) -> list[int]:
    bits = []
    while number:
        lowest = number & -number
        bits.append(lowest.bit_length() - 1)
        number ^= lowest
    return bits
