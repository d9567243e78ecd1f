import random
import re
from itertools import islice

import pytest

from analytics.simulator.open_text import sentences
from analytics.simulator.speech.numbers_spoken import cardinal, ordinal, pairs
from analytics.simulator.speech.verbalise import verbalise


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("At 3:30 pm.", "At three thirty pee em."),
        ("4 pm, or 10:05.", "four pee em, or ten oh five."),
        ("It's $1,250.", "It's one thousand two hundred fifty dollars."),
        ("$19.99", "nineteen dollars and ninety nine cents"),
        ("20% off, 24/7", "twenty percent off, twenty four seven"),
        ("the 3rd, the 21st", "the third, the twenty first"),
        ("It's K-A-T-E.", "It's kay, ay, tee, ee."),
        ("jane.doe@gmail.com", "jane dot doe at gmail dot com"),
        ("Dr. Lee fixed the HVAC", "doctor Lee fixed the aitch vack"),
        ("a two-bedroom, I think", "a two bedroom, I think"),
        ("1,200 square feet", "one thousand two hundred square feet"),
    ],
)
def test_written_forms_become_words(written: str, spoken: str) -> None:
    assert verbalise(written, random.Random(0)) == spoken


def test_a_phone_number_is_said_digit_by_digit_in_groups() -> None:
    said = verbalise("Call 415-555-0142.", random.Random(0))
    assert re.fullmatch(r"Call four one five, five five five, (oh|zero) one four two\.", said)


def test_nothing_but_words_and_pauses_reaches_a_voice() -> None:
    rng = random.Random(1)
    for sentence in islice(sentences(5), 3_000):
        assert re.fullmatch(r"[A-Za-z ,.?!']+", verbalise(sentence, rng)), sentence


def test_numbers() -> None:
    assert cardinal(0) == "zero"
    assert cardinal(999_999_999).startswith("nine hundred ninety nine million")
    assert [ordinal(number) for number in (1, 12, 20, 31)] == [
        "first",
        "twelfth",
        "twentieth",
        "thirty first",
    ]
    assert [pairs(number) for number in (412, 1905, 1987, 2000, 1200)] == [
        "four twelve",
        "nineteen oh five",
        "nineteen eighty seven",
        "two thousand",
        "twelve hundred",
    ]
    with pytest.raises(ValueError, match="outside"):
        cardinal(1_000_000_000)
