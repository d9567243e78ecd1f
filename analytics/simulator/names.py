"""Names that no list holds: made of syllables, so that a model learns to copy names instead of remembering them."""

from __future__ import annotations

from functools import cache
from random import Random

from analytics.simulator.draws import pick
from analytics.simulator.entities import read_sections, semicolons
from analytics.simulator.patterns import is_heldout


@cache
def _syllables() -> dict[str, tuple[str, ...]]:
    sections = read_sections("syllables.txt")
    return {name: semicolons(";".join(rows)) for name, rows in sections.items()}


def _word(random: Random, ends: str) -> str:
    parts = _syllables()
    word = pick(random, parts["onsets"]) + pick(random, parts["vowels"])
    if ends == "last_ends" or random.random() < 0.75:
        word += pick(random, parts["middles"])
        if random.random() < 0.25:
            word += pick(random, parts["vowels"]) + pick(random, parts["middles"])
    return word + pick(random, parts[ends])


def pseudo_first_name(random: Random) -> str:
    """A first name of syllables, never one that the name split holds out."""
    while is_heldout(word := _word(random, "first_ends")):
        pass
    return word


def pseudo_last_name(random: Random) -> str:
    """A last name of syllables, never one that the name split holds out."""
    while is_heldout(word := _word(random, "last_ends")):
        pass
    return word
