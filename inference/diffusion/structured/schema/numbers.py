"""Ranges of numbers as value sets and as regular expressions.

A range is a grid: the multiples of `step` from `lowest` to `highest`. A number's text is plain decimal, without
exponent, `+`, or zeros in front; `-0` is not written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from inference.diffusion.structured.schema.values import Scalar

MAX_DIGITS = 12  # digits before the point where the schema sets no bound: any price or phone number
DEFAULT_STEP = Fraction(1, 10_000)  # numbers without multipleOf have four decimals


@dataclass(frozen=True, slots=True)
class Grid:
    """The multiples `lowest * step` to `highest * step`, both included."""

    step: Fraction
    lowest: int
    highest: int

    def __len__(self) -> int:
        return max(self.highest - self.lowest + 1, 0)

    @property
    def num_decimals(self) -> int | None:
        """Decimals after the point when the step is 1, 0.1, 0.01 …; else None."""
        decimals = len(str(self.step.denominator)) - 1
        return decimals if self.step == Fraction(1, 10**decimals) else None

    @property
    def has_decimal_text(self) -> bool:
        """Whether every value has a finite decimal text."""
        rest = self.step.denominator
        for prime in (2, 5):
            while rest % prime == 0:
                rest //= prime
        return rest == 1

    def texts(self) -> Iterator[str]:
        """Text of every value, ascending."""
        for multiple in range(self.lowest, self.highest + 1):
            value = multiple * self.step
            yield decimal_text(Decimal(value.numerator) / Decimal(value.denominator))

    def overlaps(self, other: Grid) -> bool:
        """Whether the spans of the two grids touch."""
        return (
            self.lowest * self.step <= other.highest * other.step
            and other.lowest * other.step <= self.highest * self.step
        )


def exact(number: float) -> Fraction:
    """The number as its shortest decimal text says, not as its binary value: 0.1 is a tenth."""
    return Fraction(Decimal(repr(number)))


def grid(
    step: Fraction,
    minimum: Fraction | None,
    maximum: Fraction | None,
    above: Fraction | None,
    below: Fraction | None,
) -> Grid:
    """Multiples of `step` with `minimum` <= value <= `maximum` and `above` < value < `below`.

    Where a side has no bound, values stay within `MAX_DIGITS` digits.
    """
    most = 10**MAX_DIGITS
    lowest, highest = math.floor(-most / step) + 1, math.ceil(most / step) - 1
    lower = [math.ceil(minimum / step)] if minimum is not None else []
    lower += [math.floor(above / step) + 1] if above is not None else []
    upper = [math.floor(maximum / step)] if maximum is not None else []
    upper += [math.ceil(below / step) - 1] if below is not None else []
    return Grid(step, max(lower, default=lowest), min(upper, default=highest))


def common_step(left: Fraction, right: Fraction) -> Fraction:
    """The smallest positive multiple of both."""
    return Fraction(
        math.lcm(left.numerator, right.numerator), math.gcd(left.denominator, right.denominator)
    )


def decimal_text(value: Decimal) -> str:
    """Plain decimal text of `value`, without zeros at the end of its decimals."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def number_of(text: str) -> Scalar:
    """The number that `text` says: int without a point, else float."""
    return float(text) if "." in text else int(text)


def text_of_number(value: float) -> str:
    """Text of a Python number, as slots write it."""
    return decimal_text(Decimal(repr(value)))


def grid_regex(numbers: Grid) -> str:
    """Regex of the values with any number of decimals up to the grid's, which has a step of 1, 0.1, 0.01 …"""
    decimals = numbers.num_decimals
    assert decimals is not None
    options: list[str] = []
    for shown in range(decimals + 1):
        unit = 10 ** (decimals - shown)
        low, high = -(-numbers.lowest // unit), numbers.highest // unit
        if low < 0:
            options += [f"-{digits}" for digits in _magnitudes(max(-high, 1), -low, shown)]
        options += _magnitudes(max(low, 0), high, shown)
    return f"(?:{'|'.join(options)})"


def _magnitudes(low: int, high: int, decimals: int) -> list[str]:
    """Regexes of the texts of `low` to `high` in units of 10^-`decimals`."""
    options, whole = [], []
    for num_digits in range(decimals + 1, len(str(max(high, 0))) + decimals + 2):
        first = 10 ** (num_digits - 1) if num_digits > decimals + 1 else 0
        bottom, top = max(low, first), min(high, 10**num_digits - 1)
        if first and (bottom, top) == (first, 10**num_digits - 1):
            whole.append(num_digits - decimals - 1)
        elif bottom <= top:
            bounds = str(bottom).zfill(num_digits), str(top).zfill(num_digits)
            options.append(_digits(*bounds, point_after=num_digits - decimals if decimals else -1))
    if whole:
        point = f"\\.[0-9]{{{decimals}}}" if decimals else ""
        options.append(f"[1-9][0-9]{{{whole[0]},{whole[-1]}}}{point}")
    return options


def _digits(low: str, high: str, point_after: int) -> str:
    """Regex of the digit strings from `low` to `high`, of equal length, with a point after `point_after` digits."""
    if not low:
        return ""
    point = r"\." if point_after == 1 else ""
    if low[0] == high[0]:
        return low[0] + point + _digits(low[1:], high[1:], point_after - 1)
    free = _digits_free(len(low) - 1, point_after - 1)
    nines, zeros = "9" * (len(low) - 1), "0" * (len(low) - 1)
    first, last = int(low[0]), int(high[0])
    options = []
    if low[1:] != zeros:
        options.append(low[0] + point + _digits(low[1:], nines, point_after - 1))
        first += 1
    rest = None
    if high[1:] != nines:
        rest = high[0] + point + _digits(zeros, high[1:], point_after - 1)
        last -= 1
    if first <= last:
        options.append(f"[{first}-{last}]{point}{free}")
    return f"(?:{'|'.join([*options, *([rest] if rest else [])])})"


def _digits_free(num_digits: int, point_after: int) -> str:
    if num_digits == 0:
        return ""
    if not 0 < point_after <= num_digits:
        return f"[0-9]{{{num_digits}}}"
    behind = num_digits - point_after
    return f"[0-9]{{{point_after}}}\\." + (f"[0-9]{{{behind}}}" if behind else "")
