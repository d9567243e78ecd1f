"""Comparing texts: a plain normaliser, word errors and ROUGE-L.

The normaliser makes equal what sounds equal and is written in several ways; nothing is left out, fillers included:
  case, accents and apostrophes go ("it's" = "Its"); other marks between words are spaces ("follow-up" = "follow up");
  $120 = 120 dollars, 1,200 = 1200, 25% = 25 percent, 3 p.m. = 3 pm = 3pm = 3:00 pm, & = and;
  OK = okay, alright = all right, Dr. = doctor, Mr. = mister;
  the marks inside 3:30 and 2.5 stay. Numbers in words stay words: "three" is not 3.
Word errors forgive one thing more, which no listener can tell: single number words equal their digits ("three" = "3").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass

_MONEY = re.compile(r"\$\s?(\d[\d,]*(?:\.\d+)?)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_HALF_DAY = re.compile(r"(?<=\d)\s*([ap])\s?\.?\s?m\b\.?")
_FULL_HOUR = re.compile(r"(?<=\d):00(?= [ap]m\b)")
_ZERO_CENTS = re.compile(r"(?<=\d)\.00\b")
_APOSTROPHES = re.compile(r"['\u2019`]")
_SPELLINGS = {
    "ok": ("okay",),
    "alright": ("all", "right"),
    "dr": ("doctor",),
    "mr": ("mister",),
}
_WORD = re.compile(r"\d+(?:[:.]\d+)*[a-z]*|[a-z0-9]+")

_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {word: str(10 * tens) for tens, word in enumerate(_TENS.split(), start=1)} | {
    word: str(value) for value, word in enumerate(_UP_TO_NINETEEN.split())
}
"""Number words that are one word, and their digits."""


def words_of(text: str) -> list[str]:
    """The normalised words of a text."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    plain = _MONEY.sub(r"\1 dollars", _APOSTROPHES.sub("", plain))
    plain = _ZERO_CENTS.sub("", _THOUSANDS.sub("", plain))
    plain = _FULL_HOUR.sub("", _HALF_DAY.sub(r" \1m", plain))
    plain = plain.replace("%", " percent ").replace("&", " and ")
    return [part for word in _WORD.findall(plain) for part in _SPELLINGS.get(word, (word,))]


@dataclass(frozen=True, slots=True)
class WordErrors:
    """What became of the reference's words. A missed word was replaced or left out.

    `digits` are reference words with a digit in them, `names` those that the caller of `word_errors` called names.
    """

    num_words: int
    substitutions: int
    deletions: int
    insertions: int
    num_digits: int
    missed_digits: int
    num_names: int
    missed_names: int

    @property
    def num_errors(self) -> int:
        """The numerator of the word error rate; `num_words` is its denominator."""
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: WordErrors) -> WordErrors:
        counts = zip(astuple(self), astuple(other), strict=True)
        return WordErrors(*(mine + others for mine, others in counts))


def word_errors(reference: str, hypothesis: str, *, names: Collection[str] = ()) -> WordErrors:
    """Word errors of a hypothesis by the cheapest alignment. `names`: texts whose words are names."""
    expected, found = words_of(reference), words_of(hypothesis)
    name_words = {word for name in names for word in words_of(name)}
    sounds = [NUMBER_WORDS.get(word, word) for word in expected]
    heard = [NUMBER_WORDS.get(word, word) for word in found]
    pairs = align(sounds, heard)
    missed = [i for i, j in pairs if i is not None and (j is None or sounds[i] != heard[j])]
    deletions = sum(j is None for _, j in pairs)
    return WordErrors(
        num_words=len(expected),
        substitutions=len(missed) - deletions,
        deletions=deletions,
        insertions=sum(i is None for i, _ in pairs),
        num_digits=sum(map(_has_digit, expected)),
        missed_digits=sum(_has_digit(expected[i]) for i in missed),
        num_names=sum(word in name_words for word in expected),
        missed_names=sum(expected[i] in name_words for i in missed),
    )


def _has_digit(word: str) -> bool:
    return any(character.isdigit() for character in word)


def align(expected: Sequence[str], found: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Pairs of positions by fewest edits, None where a word has no partner. Of equal ways, replacing comes first."""
    # What both ends share is part of some cheapest alignment, and a good recogniser shares nearly all.
    start = 0
    while start < min(len(expected), len(found)) and expected[start] == found[start]:
        start += 1
    tail = 0
    longest_tail = min(len(expected), len(found)) - start
    while tail < longest_tail and expected[-1 - tail] == found[-1 - tail]:
        tail += 1
    rows, columns = len(expected) - tail, len(found) - tail
    middle = _align(expected[start:rows], found[start:columns])
    return [
        *((i, i) for i in range(start)),
        *((i if i is None else i + start, j if j is None else j + start) for i, j in middle),
        *((rows + k, columns + k) for k in range(tail)),
    ]


def _align(expected: Sequence[str], found: Sequence[str]) -> list[tuple[int | None, int | None]]:
    cost = [list(range(len(found) + 1))]
    for i, word in enumerate(expected, start=1):
        above, row = cost[-1], [i]
        for j, other in enumerate(found, start=1):
            row.append(min(above[j - 1] + (word != other), above[j] + 1, row[-1] + 1))
        cost.append(row)
    pairs: list[tuple[int | None, int | None]] = []
    i, j = len(expected), len(found)
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + (expected[i - 1] != found[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


def rouge_l(reference: str, hypothesis: str) -> float:
    """F1 of the longest common subsequence of words (ROUGE-L, beta 1); 1 when both texts are empty."""
    expected, found = words_of(reference), words_of(hypothesis)
    if not expected or not found:
        return float(not expected and not found)
    return 2 * _common_length(expected, found) / (len(expected) + len(found))


def _common_length(first: Sequence[str], second: Sequence[str]) -> int:
    above = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for j, other in enumerate(second, start=1):
            row.append(above[j - 1] + 1 if word == other else max(above[j], row[-1]))
        above = row
    return above[-1]
