"""English number words."""

from __future__ import annotations

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen"),
    *("sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = (
    *("zero", "ten", "twenty", "thirty", "forty"),
    *("fifty", "sixty", "seventy", "eighty", "ninety"),
)
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> str:
    """0 to 999,999,999 in words. Raises ValueError outside that range."""
    if not 0 <= number < 1_000_000_000:
        raise ValueError(f"{number} is outside the numbers a call mentions")
    if number < 20:
        return _SMALL[number]
    if number < 100:
        rest = number % 10
        return _TENS[number // 10] + (f" {_SMALL[rest]}" if rest else "")
    for size, name in ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            return f"{cardinal(number // size)} {name}" + (f" {cardinal(rest)}" if rest else "")
    raise AssertionError("every size is covered above")


def ordinal(number: int) -> str:
    """21 → twenty first."""
    *head, last = cardinal(number).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return " ".join((*head, last))


def pairs(number: int) -> str:
    """The way house numbers and years are said: 1987 → nineteen eighty seven, 412 → four twelve."""
    head, tail = divmod(number, 100)
    if number < 100:
        return cardinal(number)
    if number % 1000 == 0:
        return cardinal(number)
    if tail == 0:
        return f"{cardinal(head)} hundred"
    if tail < 10:
        return f"{cardinal(head)} oh {cardinal(tail)}"
    return f"{cardinal(head)} {cardinal(tail)}"


def digit_by_digit(digits: str, zero: str = "zero") -> str:
    """`5501` → five five zero one."""
    return " ".join(zero if digit == "0" else _SMALL[int(digit)] for digit in digits)
