import random
import re
from decimal import Decimal
from fractions import Fraction

from inference.diffusion.structured.schema.numbers import (
    Grid,
    common_step,
    exact,
    grid,
    grid_regex,
    number_of,
    text_of_number,
)


def test_a_range_regex_matches_the_numbers_of_the_range_and_no_other():
    dice = random.Random(0)
    for _ in range(120):
        decimals = dice.choice([0, 0, 1, 2])
        low = dice.randint(-3000, 3000)
        numbers = Grid(Fraction(1, 10**decimals), low, low + dice.choice([0, 1, 9, 700, 4000]))
        pattern = re.compile(grid_regex(numbers))
        for _ in range(60):
            multiple = numbers.lowest + dice.randint(-50, len(numbers) + 50)
            (text,) = Grid(numbers.step, multiple, multiple).texts()
            inside = numbers.lowest <= multiple <= numbers.highest
            assert bool(pattern.fullmatch(text)) == inside, (numbers, text)
            padded = f"{Decimal(text):.{decimals}f}"
            if multiple:
                assert bool(pattern.fullmatch(padded)) == inside, (numbers, padded)
        assert not any(pattern.fullmatch(text) for text in ("", "-", "-0", "00", "1.", ".5", "1e3"))


def test_bounds_are_read_as_decimals_and_kept_exactly():
    tenths = grid(Fraction(1, 10), exact(0.1), exact(0.3), None, None)
    assert list(tenths.texts()) == ["0.1", "0.2", "0.3"]
    inner = grid(Fraction(1, 4), None, None, exact(-0.5), exact(0.75))
    assert list(inner.texts()) == ["-0.25", "0", "0.25", "0.5"]
    assert len(grid(Fraction(1), Fraction(3), Fraction(2), None, None)) == 0


def test_an_integer_that_is_a_multiple_of_a_fraction():
    assert common_step(Fraction(1), Fraction(1, 10)) == 1
    assert common_step(Fraction(1), Fraction(3, 2)) == 3


def test_numbers_and_their_text():
    assert text_of_number(1e-4) == "0.0001"
    assert text_of_number(-0.0) == "0"
    assert text_of_number(120.0) == "120"
    assert number_of("12") == 12
    assert isinstance(number_of("12.50"), float)
    assert not Grid(Fraction(1, 3), 0, 5).has_decimal_text
