"""Calls varied after they were made, so that a model reads what stands there instead of what it has met before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Final

from analytics.simulator.dialogue import LOWERED
from analytics.simulator.draws import pick
from analytics.simulator.entities import read_words
from analytics.simulator.labels import Records
from analytics.simulator.names import made_up_name

_SHORTEST: Final = (
    6  # letters of a service that is replaced: "cut" also stands where nobody means a haircut
)
_LONGEST: Final = 40
_VOWELS: Final = frozenset("aeiou")
_MARK_BETWEEN: Final = re.compile(r"([.,!?]) (\w[\w']*)")


@cache
def _words(name: str) -> tuple[str, ...]:
    return tuple(word.partition("/")[0] for word in read_words(f"{name}.txt"))


def made_up_service(random: Random) -> str:
    """A noun phrase of two or three words that names no service anybody sells: "velvet anchor", "stector repair"."""
    while True:
        share = random.random()
        if share < 0.35:
            first = pick(random, _words("adjectives"))
        elif share < 0.7:
            first = pick(random, _words("nouns"))
        else:
            first = made_up_name(random, "last_ends").lower()
        middle = [pick(random, _words("nouns"))] if random.random() < 0.3 else []
        phrase = " ".join([first, *middle, pick(random, _words("nouns"))])
        if len(phrase) <= _LONGEST:
            return phrase


def with_unknown_service(
    texts: Sequence[str], records: Records, random: Random
) -> tuple[list[str], Records]:
    """Turns and records that speak of a made-up thing wherever they spoke of the call's service.

    A call whose service is unknown, short or not said in so many words stays as it is.
    """
    known = records["summary"]["service"]
    if known is None or len(known) < _SHORTEST:
        return list(texts), records
    place = re.compile(rf"\b(?:(an?) )?{re.escape(known)}\b", re.IGNORECASE)
    if not any(place.search(text) for text in texts):
        return list(texts), records
    other = made_up_service(random)

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
