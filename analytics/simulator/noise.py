"""What a recogniser does to speech: words heard as others, lost, doubled, split; names misspelt; marks, case gone."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from math import log
from random import Random
from typing import Final

from analytics.simulator.entities import LEXICON_DIRECTORY

_EDGES = re.compile(r"^([^\w$]*)(.*?)([^\w]*)$", re.DOTALL)
_NEAR_LETTERS: Final = {
    "a": "eo", "b": "pv", "c": "ks", "d": "tb", "e": "ia", "f": "vs", "g": "jk", "h": "", "i": "ey", "j": "g",
    "k": "cg", "l": "r", "m": "n", "n": "m", "o": "au", "p": "bt", "q": "k", "r": "l", "s": "zc", "t": "dp",
    "u": "o", "v": "fb", "w": "v", "x": "s", "y": "ie", "z": "s",
}  # fmt: skip
_FILLERS: Final = ("uh", "um", "the", "a", "and", "i", "it", "to", "so", "you")


@cache
def confusions() -> dict[str, tuple[str, ...]]:
    """Lower-case word → words that sound like it, from `lexicon/confusions.txt`."""
    table: dict[str, list[str]] = {}
    for line in (LEXICON_DIRECTORY / "confusions.txt").read_text(encoding="utf-8").splitlines():
        words = [] if line.startswith("#") else [word.replace("_", " ") for word in line.split()]
        for word in words:
            table.setdefault(word, []).extend(other for other in words if other != word)
    return {word: tuple(others) for word, others in table.items() if " " not in word}


def _misspell(word: str, random: Random) -> str:
    """One letter lost, doubled or heard as its neighbour; the first letter stays."""
    if len(word) < 3:
        return word
    place = 1 + int(random.random() * (len(word) - 1))
    letter = word[place]
    share = random.random()
    near = _NEAR_LETTERS.get(letter.lower(), "")
    if share < 0.3:
        return word[:place] + word[place + 1 :]
    if share < 0.5 or not near:
        return word[:place] + letter + word[place:]
    return word[:place] + near[int(random.random() * len(near))] + word[place + 1 :]


def _bare(word: str) -> str:
    return word.strip('.,?!;:"').removesuffix("'s")


def _mishear(word: str, random: Random) -> str:
    """The word as wrongly heard; empty when it is lost."""
    match = _EDGES.match(word)
    assert match is not None  # the pattern matches any text
    before, core, after = match.groups()
    if not core or core[0] in "$0123456789":
        return word
    share = random.random()
    if share < 0.14 and len(core) < 8:
        return ""
    if share < 0.22:
        return f"{before}{core} {core.lower()}{after}"
    if share < 0.30:
        return f"{_FILLERS[int(random.random() * len(_FILLERS))]} {word}"
    if share < 0.36 and len(core) > 6:
        place = 3 + int(random.random() * (len(core) - 5))
        return f"{before}{core[:place]} {core[place:]}{after}"
    if share < 0.44:
        return before + core
    others = confusions().get(core.lower())
    if others is None:
        return before + _misspell(core, random) + after
    other = others[int(random.random() * len(others))]
    return before + (other.capitalize() if core[0].isupper() else other) + after


def add_noise(
    texts: Sequence[str], rate: float, random: Random, *, spared: Collection[str] = ()
) -> list[str]:
    """The texts with about `rate` of their words misheard, and in some calls without marks or case.

    Digits stay, and so do the words in `spared`, but for marks and case.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"a noise rate lies in [0, 1), not {rate}")
    if rate == 0.0:
        return list(texts)
    style = random.random()
    plain = style < 2 * rate
    lower = style < rate
    log_keep = log(1.0 - rate)
    gap = int(log(1.0 - random.random()) / log_keep)
    noisy = []
    for text in texts:
        words = text.split(" ")
        while gap < len(words):
            if not spared or _bare(words[gap]) not in spared:
                words[gap] = _mishear(words[gap], random)
            gap += 1 + int(log(1.0 - random.random()) / log_keep)
        gap -= len(text.split(" "))
        text = " ".join([word for word in words if word]) or text
        if plain:
            text = text.translate(_MARKS)
        noisy.append(text.lower() if lower else text)
    return noisy


_MARKS: Final = str.maketrans("", "", '?!;"')
