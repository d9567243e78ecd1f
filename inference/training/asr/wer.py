"""Word error rate, with a normaliser that forgives spelling but not hearing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SMALL_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBER_WORDS = {word: str(value) for value, word in enumerate(_SMALL_NUMBERS)}
_SAME = {"okay": "ok", "dr": "doctor", "mr": "mister", "alright": "all right"}


def normalise(text: str) -> list[str]:
    """Lower-case words: punctuation dropped, hyphens split, small number words as digits, `$120` as 120."""
    lowered = text.lower().replace("’", "'").replace("-", " ")
    lowered = re.sub(r"(?<=\d),(?=\d)", "", lowered)
    found = re.findall(r"[a-z]+(?:'[a-z]+)*|\d+", lowered)
    return [_NUMBER_WORDS.get(_SAME.get(word, word), _SAME.get(word, word)) for word in found]


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein distance over words."""
    row = list(range(len(hypothesis) + 1))
    for i_reference, word in enumerate(reference, 1):
        previous, row[0] = row[0], i_reference
        for i_hypothesis, heard in enumerate(hypothesis, 1):
            previous, row[i_hypothesis] = (
                row[i_hypothesis],
                min(row[i_hypothesis] + 1, row[i_hypothesis - 1] + 1, previous + (word != heard)),
            )
    return row[-1]


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Errors against words spoken; `figure_*` and `name_*` count whole digit strings and capitalised words missed."""

    errors: int
    words: int
    figure_errors: int
    figures: int
    name_errors: int
    names: int

    @property
    def rate(self) -> float:
        """Word error rate, 0 to 1 and above; 0 when nothing was said and nothing heard."""
        return self.errors / self.words if self.words else float(self.errors > 0)


def _names(text: str) -> list[str]:
    """Capitalised words that do not open a sentence."""
    return [name.lower() for name in re.findall(r"(?<=[a-z,;] )[A-Z][a-z]+(?!')\b", text)]


def count_errors(pairs: Iterable[tuple[str, str]]) -> WordErrors:
    """Errors of (reference, hypothesis) pairs together."""
    errors = words = figure_errors = figures = name_errors = names = 0
    for reference, hypothesis in pairs:
        spoken, heard = normalise(reference), normalise(hypothesis)
        errors += edit_distance(spoken, heard)
        words += len(spoken)
        spoken_figures = [word for word in spoken if word.isdigit()]
        figures += len(spoken_figures)
        figure_errors += len(spoken_figures) - _matched(spoken_figures, heard)
        spoken_names = _names(reference)
        names += len(spoken_names)
        name_errors += len(spoken_names) - _matched(spoken_names, heard)
    return WordErrors(errors, words, figure_errors, figures, name_errors, names)


def _matched(wanted: list[str], heard: list[str]) -> int:
    left = list(heard)
    found = 0
    for word in wanted:
        if word in left:
            left.remove(word)
            found += 1
    return found
