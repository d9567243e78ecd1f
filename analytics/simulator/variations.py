"""Calls varied after they were made, so that a model reads what stands there instead of what it has met before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Final

from analytics.simulator.dialogue import LOWERED
from analytics.simulator.draws import Draw, pick
from analytics.simulator.entities import load_verticals
from analytics.simulator.labels import Records
from analytics.simulator.names import made_up_name
from analytics.simulator.open_text import plural, vocabulary, words

_SHORTEST: Final = (
    6  # letters of a service that is replaced: "cut" also stands where nobody means a haircut
)
_LONGEST: Final = 40
_SOLD_ELSEWHERE_SHARE: Final = 0.15  # of the other services: what another trade sells
_VOWELS: Final = frozenset("aeiou")
_MARK_BETWEEN: Final = re.compile(r"([.,!?]) (\w[\w']*)")
_SHAPES: Final = Draw(
    {
        "{noun}": 12,
        "{modifier} {noun}": 48,
        "{modifier} {modifier} {noun}": 10,
        "{noun} {head}": 10,
        "{modifier} {head}": 10,
        "{noun} and {noun}": 3,
        "{noun} with the {modifier} {noun}": 4,
        "{noun} by the {noun}": 3,
    }
)


@cache
def _services() -> tuple[str, ...]:
    lines = [line for vertical in load_verticals().values() for line in vertical.lines]
    return tuple(sorted({service.name for line in lines for service in line.services}))


@cache
def _heads() -> tuple[str, ...]:
    """What services are called by their last word: "repair", "extensions", "inspection"."""
    return tuple(sorted({name.split()[-1] for name in _services() if " " in name}))


@cache
def _any_words() -> tuple[str, ...]:
    return tuple(word for word in vocabulary() if word.isalpha() and word.islower())


def _noun(random: Random) -> str:
    return pick(random, words("nouns")).partition("/")[0]  # without its irregular plural


def _modifier(random: Random) -> str:
    share = random.random()
    if share < 0.25:
        return pick(random, words("adjectives"))
    if share < 0.5:
        return _noun(random)
    if share < 0.8:
        return pick(random, _any_words())
    return made_up_name(random, "last_ends").lower()


def _part(random: Random, part: str) -> str:
    match part:
        case "{noun}":
            return plural(pick(random, words("nouns"))) if random.random() < 0.2 else _noun(random)
        case "{head}":
            return pick(random, _heads())
        case "{modifier}":
            return _modifier(random)
    return part


def made_up_service(random: Random) -> str:
    """A noun phrase that names no service anybody sells: "velvet anchor", "stector repair", "kite with the loud fence".

    Every word is drawn on its own, so that no word tells the next and a model must read on to the end.
    """
    while True:
        phrase = " ".join(_part(random, part) for part in _SHAPES(random).split())
        if len(phrase) <= _LONGEST:
            return phrase


def other_service(random: Random) -> str:
    """What a call may be about instead of its service: mostly a thing that nobody sells, at times another trade's."""
    if random.random() < _SOLD_ELSEWHERE_SHARE:
        return pick(random, _services())
    return made_up_service(random)


def with_other_service(
    texts: Sequence[str], records: Records, random: Random
) -> tuple[list[str], Records]:
    """Turns and records that speak of another thing wherever they spoke of the call's service.

    A call whose service is unknown, short or not said in so many words stays as it is.
    """
    known = records["summary"]["service"]
    if known is None or len(known) < _SHORTEST:
        return list(texts), records
    place = re.compile(rf"\b(?:(an?) )?{re.escape(known)}\b", re.IGNORECASE)
    if not any(place.search(text) for text in texts):
        return list(texts), records
    other = other_service(random)

    def replaced(match: re.Match[str]) -> str:
        article = "an" if other[0] in _VOWELS else "a"
        new = f"{article} {other}" if match.group(1) else other
        begins_sentence = match.group()[0].isupper() and (match.group(1) or known[0].islower())
        return new[0].upper() + new[1:] if begins_sentence else new

    summary = records["summary"] | {
        "service": other,
        "summary": place.sub(replaced, records["summary"]["summary"]),
    }
    return [place.sub(replaced, text) for text in texts], records | {"summary": summary}


def with_other_marks(texts: Sequence[str], rate: float, random: Random) -> list[str]:
    """The texts with about `rate` of their marks as another listener would set them.

    "Lovely. So bye!" may become "Lovely, so bye."
    """

    def other(match: re.Match[str]) -> str:
        if random.random() >= rate:
            return match.group()
        mark, word = match.groups()
        if mark == ",":
            return f". {word[0].upper()}{word[1:]}" if random.random() < 0.5 else f" {word}"
        if word in LOWERED and random.random() < 0.6:
            return f", {word.lower()}"
        return f". {word}"

    varied = [_MARK_BETWEEN.sub(other, text) for text in texts]
    return [
        f"{text[:-1]}." if text[-1:] in ("!", "?") and random.random() < rate else text
        for text in varied
    ]
