"""Names that no list holds, so that a model learns to copy a name instead of remembering it.

Syllables alone are too few: what is only ever seen inside other words is never copied right as part of a name. Hence
also ordinary words ("Love", "Sparks"), and the head of one word with the tail of another ("Stector", "Branapp").
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Literal

from analytics.simulator.draws import pick
from analytics.simulator.entities import load_names, read_sections, read_words, semicolons
from analytics.simulator.patterns import is_heldout

NameEnds = Literal["first_ends", "last_ends"]

_SYLLABLES_SHARE = 0.2
_WORD_SHARE = 0.12
_LONGEST = 12
_WORD_LISTS = ("nouns", "adjectives", "verbs", "abstract")


@cache
def _syllables() -> dict[str, tuple[str, ...]]:
    sections = read_sections("syllables.txt")
    return {name: semicolons(";".join(rows)) for name, rows in sections.items()}


@cache
def _ordinary_words() -> tuple[str, ...]:
    words = {word.partition("/")[0] for name in _WORD_LISTS for word in read_words(f"{name}.txt")}
    return tuple(sorted(word for word in words if word.isalpha() and 3 <= len(word) <= _LONGEST))


@cache
def _training_names() -> tuple[str, ...]:
    names = load_names(heldout=False)
    return tuple(name.lower() for name in (*names.first, *names.last) if name.isalpha())


def _of_syllables(random: Random, ends: NameEnds) -> str:
    parts = _syllables()
    word = pick(random, parts["onsets"]) + pick(random, parts["vowels"])
    if ends == "last_ends" or random.random() < 0.75:
        word += pick(random, parts["middles"])
        if random.random() < 0.25:
            word += pick(random, parts["vowels"]) + pick(random, parts["middles"])
    return word + pick(random, parts[ends])


def _part(random: Random) -> str:
    return pick(random, _training_names() if random.random() < 0.6 else _ordinary_words())


def _spliced(random: Random) -> str:
    head, tail = _part(random), _part(random)
    start = head[: 1 + int(random.random() * min(5, len(head)))]
    end = tail[-2 - int(random.random() * 5) :]
    name = (start + end).capitalize()[:_LONGEST]
    return f"Mc{name}" if random.random() < 0.03 else name


def made_up_name(random: Random, ends: NameEnds) -> str:
    """A first or a last name that is in no list, never one that the name split holds out."""
    while True:
        share = random.random()
        if share < _SYLLABLES_SHARE:
            name = _of_syllables(random, ends)
        elif share < _SYLLABLES_SHARE + _WORD_SHARE:
            name = pick(random, _ordinary_words()).capitalize()
        else:
            name = _spliced(random)
        if not is_heldout(name):
            return name
