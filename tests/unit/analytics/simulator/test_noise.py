"""Noise as a recogniser makes it: at the asked rate, the same for the same seed, never in digits."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from analytics.simulator import simulate
from analytics.simulator.noise import add_noise

TEXTS = [
    text for call in islice(simulate(9), 200) for _, text in call.turns
]  # some 30,000 words of calls


def test_no_noise_changes_nothing() -> None:
    assert add_noise(TEXTS, 0.0, Random(1)) == TEXTS


def test_the_same_seed_makes_the_same_mistakes() -> None:
    assert add_noise(TEXTS, 0.1, Random(1)) == add_noise(TEXTS, 0.1, Random(1))
    assert add_noise(TEXTS, 0.1, Random(1)) != add_noise(TEXTS, 0.1, Random(2))


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.25])
def test_about_the_asked_share_of_words_changes(rate: float) -> None:
    changed = total = 0
    for seed in range(4):
        for clean, noisy in zip(TEXTS, add_noise(TEXTS, rate, Random(seed)), strict=True):
            # words that are gone count once, whatever stands in their place
            left = noisy.lower().replace("?", "").replace("!", "").split()
            for word in clean.lower().replace("?", "").replace("!", "").split():
                total += 1
                if word in left:
                    left.remove(word)
                else:
                    changed += 1
    assert 0.5 * rate < changed / total < 1.3 * rate


def test_digits_and_prices_stay() -> None:
    text = ["Call 415 555 0142 or pay $1,250 at 3:30 pm."] * 50
    for noisy in add_noise(text, 0.6, Random(3)):
        for token in ("415", "555", "0142", "$1,250", "3:30"):
            assert token in noisy


def test_a_turn_never_becomes_empty() -> None:
    assert all(add_noise(["Yes."] * 500, 0.9, Random(4)))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="noise rate"):
        add_noise(TEXTS, rate, Random(0))


def test_spared_words_are_heard_as_they_are() -> None:
    texts = ["My name is Stector Love.", "It is Love's, I said Stector, please."] * 40
    noisy = " ".join(add_noise(texts, 0.9, Random(5), spared=("Stector", "Love")))
    assert noisy.lower().count("stector") == 80
    assert noisy.lower().count("love") == 80
    assert noisy != " ".join(texts)
