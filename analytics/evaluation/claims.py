"""Unsupported claims: what a summary states and neither the call nor its known facts hold.

A rule, not a judge: it looks at what can be checked word by word, and errs on the side of calling a claim unsupported.
  number   each word with a digit, whatever its unit: $120, 3:30, 14th, 555. Supported when the same number stands in a
           source; 14 = 14th, and numbers up to 99 may be written in words there.
  date     a weekday, a month (capitalised), today, tomorrow, tonight, noon, midnight, weekend, morning, afternoon or
           evening. Supported when a source has that word.
  name     a run of capitalised words that are no dates. The first word of a sentence counts unless it is one that
           sentences of summaries begin with (`_OPENERS`). Supported when every word of the run stands in a source.
  service  a known service, or the record's own, where the text names it. Supported when its words stand in one source
           one after another.
Sources are the turns as the model read them and the facts that are known of the call, each a text of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from analytics.evaluation.entities import contains, entity_words
from analytics.evaluation.texts import NUMBER_WORDS, words_of

ClaimKind = Literal["number", "date", "name", "service"]


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MONTHS: Final = _listed(
    "january february march april may june july august september october november december"
)
_DATE_WORDS: Final = _listed(
    "monday tuesday wednesday thursday friday saturday sunday today tomorrow tonight noon midnight weekend morning "
    "afternoon evening"
)
_OPENERS: Final = _listed(
    "a after agent an and ask before both but call caller check client customer during follow he her his however i if "
    "in it its nobody no none offer once one our patient please send she since so someone that the their then there "
    "they this to we when while you your"
)
_TENS: Final = _listed("20 30 40 50 60 70 80 90")
_UNITS: Final = _listed("1 2 3 4 5 6 7 8 9")
_ORDINAL: Final = re.compile(r"^(\d+)(?:st|nd|rd|th)$")
_TOKEN: Final = re.compile(
    r"(?P<word>[^\W\d_]+(?:['\u2019][^\W\d_]+)*)|(?P<end>[.?!](?=\s|$))|(?P<other>\S)"
)
_POSSESSIVE: Final = re.compile(r"['\u2019]s\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that a summary states, in normalised words."""

    kind: ClaimKind
    words: tuple[str, ...]


class ServiceNames:
    """Phrases that name a service, prepared for look-up. Leading articles do not matter."""

    def __init__(self, names: Iterable[str]) -> None:
        self._phrases = {entity_words("service", name) for name in names} - {()}
        self._lengths = sorted({len(phrase) for phrase in self._phrases}, reverse=True)

    def find(self, words: Sequence[str]) -> set[tuple[str, ...]]:
        """The services named in a text. "Water heater repair" is one, though "water heater" is a service too."""
        found: set[tuple[str, ...]] = set()
        for length in self._lengths:
            for start in range(len(words) - length + 1):
                phrase = tuple(words[start : start + length])
                if phrase in self._phrases and not any(contains(other, phrase) for other in found):
                    found.add(phrase)
        return found


class Sources:
    """What is known of a call, prepared for look-up: one text per turn and per fact."""

    def __init__(self, texts: Iterable[str]) -> None:
        # "The elevator's out" names the elevator.
        both = ((text, _POSSESSIVE.sub("", text)) for text in texts)
        self._texts = [words_of(text) for pair in both for text in dict.fromkeys(pair)]
        self._words = {word for words in self._texts for word in words}
        self._numbers = {number for words in self._texts for number in _numbers(words)}

    def support(self, claim: Claim) -> bool:
        """Whether a source holds the claim."""
        if claim.kind == "number":
            return claim.words[0] in self._numbers
        if claim.kind == "service":
            return any(contains(words, claim.words) for words in self._texts)
        return self._words.issuperset(claim.words)


def claims_of(text: str, services: ServiceNames) -> list[Claim]:
    """The claims that a text makes."""
    words = words_of(text)
    claims = [Claim("number", (number,)) for number in _numbers(words, in_words=False)]
    claims += [Claim("date", (word,)) for word in words if word in _DATE_WORDS]
    for run in _capitalised_runs(text):
        name = tuple(word for word in run if word not in _DATE_WORDS and word not in _MONTHS)
        claims += [Claim("date", (word,)) for word in run if word in _MONTHS]
        claims += [Claim("name", name)] if name else []
    return claims + [Claim("service", phrase) for phrase in sorted(services.find(words))]


def unsupported_claims(claims: Iterable[Claim], sources: Sources) -> list[Claim]:
    """The claims that no source holds."""
    return [claim for claim in claims if not sources.support(claim)]


def _numbers(words: Sequence[str], *, in_words: bool = True) -> Iterator[str]:
    """Numbers in digits without ordinal endings; with `in_words` also those up to 99 written out."""
    for i, word in enumerate(words):
        if word[0].isdigit():
            ordinal = _ORDINAL.match(word)
            yield ordinal.group(1) if ordinal else word
        elif in_words and word in NUMBER_WORDS:
            number = NUMBER_WORDS[word]
            unit = NUMBER_WORDS.get(words[i + 1], "") if i + 1 < len(words) else ""
            yield number
            if number in _TENS and unit in _UNITS:
                yield number[0] + unit


def _capitalised_runs(text: str) -> Iterator[tuple[str, ...]]:
    """Runs of capitalised words, normalised, without "I" and without a sentence's usual first words."""
    run: list[str] = []
    starts_sentence = True
    for match in _TOKEN.finditer(text):
        word = match.group("word")
        is_name = (
            word is not None
            and word[0].isupper()
            and word.casefold() not in ("i", "i'm", "i'd", "i'll", "i've")
            and not (starts_sentence and word.casefold() in _OPENERS)
        )
        if word is not None and is_name:
            run += words_of(_POSSESSIVE.sub("", word))
        elif run and match.group() != "-":
            yield tuple(run)
            run = []
        starts_sentence = match.group("end") is not None
    if run:
        yield tuple(run)
