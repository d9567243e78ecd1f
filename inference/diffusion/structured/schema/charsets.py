"""Sets of code points as sorted, disjoint, inclusive ranges."""

from __future__ import annotations

from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]

LAST_CODE_POINT = 0x10FFFF

WRITABLE: Ranges = (
    (0x20, 0x21),
    (0x23, 0x5B),
    (0x5D, 0x7E),
    (0xA0, 0x2027),
    (0x202F, 0xD7FF),
    (0xF900, 0xFFFD),
    (0x10000, 0x3FFFF),
)
"""What a slot may hold inside quotes: no control character (line separators and changes of direction among them),
quote, backslash or surrogate, nothing for private use and nothing above the planes that Unicode has filled."""

DIGITS: Ranges = ((0x30, 0x39),)
WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
SPACE: Ranges = ((0x20, 0x20),)
ASCII: Ranges = ((0x00, 0x7F),)


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sort and merge `ranges`."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """All code points outside `ranges`."""
    gaps, start = [], 0
    for low, high in ranges:
        if start < low:
            gaps.append((start, low - 1))
        start = high + 1
    if start <= LAST_CODE_POINT:
        gaps.append((start, LAST_CODE_POINT))
    return tuple(gaps)


def intersection(left: Ranges, right: Ranges) -> Ranges:
    """Code points in both `left` and `right`."""
    overlaps = (
        (max(low, other_low), min(high, other_high))
        for low, high in left
        for other_low, other_high in right
    )
    return union((low, high) for low, high in overlaps if low <= high)
