"""Open text: sentences over a wide vocabulary, so that a recogniser learns words and not calls.

Frames and words are ours (`lexicon/`), written by hand. A frame's slots are filled with inflected words and with
names, numbers, times, prices and the like in the form in which they are written. Frames split into training and
held-out ones by the hash rule of the utterance bank.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.resources import files

from analytics.simulator import written_forms
from analytics.simulator.patterns import Split, is_heldout

_SLOT = re.compile(r"\{(\w+)\}")
_VOWEL_SOUND = re.compile(r"^(?:[aeio]|u(?!n[ei]|s[eu]))|^ho(?:ur|nest)", re.IGNORECASE)
_CVC = re.compile(r"^[^aeiou]*[aeiou][bdgklmnprt]$")
_DETERMINERS = ("the", "my", "your", "our", "their", "his", "her", "this", "that", "another")
_PLURAL_DETERMINERS = ("the", "my", "your", "our", "some", "those", "these", "all the", "more", "")
_PRONOUNS = ("it", "them", "that", "this", "one", "something", "everything", "him", "her", "us")


@cache
def lexicon(name: str) -> tuple[str, ...]:
    """The lines of one lexicon file, comments left out. Raises FileNotFoundError for an unknown name."""
    text = (files("analytics.simulator") / "lexicon" / f"{name}.txt").read_text()
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


@cache
def words(name: str) -> tuple[str, ...]:
    """All words of one lexicon file that holds many to a line."""
    return tuple(word.replace("_", " ") for line in lexicon(name) for word in line.split())


@cache
def frames(split: Split) -> tuple[str, ...]:
    """The frames of one side of the split."""
    return tuple(frame for frame in lexicon("frames") if is_heldout(frame) == (split == "heldout"))


def plural(entry: str) -> str:
    """`leaf/leaves` → leaves, `box` → boxes, `city` → cities, `cat` → cats."""
    singular, _, irregular = entry.partition("/")
    if irregular:
        return irregular
    if re.search(r"(s|x|z|ch|sh)$", singular):
        return singular + "es"
    if re.search(r"[^aeiou]y$", singular):
        return singular[:-1] + "ies"
    return singular + "s"


def third_person(verb: str) -> str:
    """`wash` → washes, `carry` → carries, `go` → goes, `call` → calls."""
    return plural(verb) if not verb.endswith("o") else verb + "es"


def gerund(verb: str) -> str:
    """`make` → making, `run` → running, `lie` → lying, `call` → calling."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return (verb + verb[-1] if _CVC.match(verb) else verb) + "ing"


def past_forms(entry: str) -> tuple[str, str]:
    """(past, participle) of a verb line: `go went gone` or a regular base form."""
    parts = entry.split()
    if len(parts) == 3:
        return parts[1], parts[2]
    verb = parts[0]
    if verb.endswith("e"):
        return verb + "d", verb + "d"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied", verb[:-1] + "ied"
    regular = (verb + verb[-1] if _CVC.match(verb) else verb) + "ed"
    return regular, regular


@cache
def vocabulary() -> tuple[str, ...]:
    """Every inflected form the lexicon knows, sorted: more than 6,000 words."""
    known: set[str] = set()
    for verb_list in ("verbs", "verbs_intransitive"):
        for entry in lexicon(verb_list):
            base = entry.split()[0]
            known |= {base, third_person(base), gerund(base), *past_forms(entry)}
    for noun_list in ("nouns", "people"):
        for entry in words(noun_list):
            known |= {entry.partition("/")[0], plural(entry)}
    for plain in ("abstract", "adjectives", "adverbs", "first_names", "last_names", "proper"):
        known |= set(words(plain))
    for phrase in (*lexicon("places"), *lexicon("trade")):
        known |= set(phrase.split())
    return tuple(sorted(known))


def with_article(noun_phrase: str) -> str:
    """`apple` → an apple, `used car` → a used car."""
    return ("an " if _VOWEL_SOUND.match(noun_phrase) else "a ") + noun_phrase


class _Filler:
    """Fills the slots of one frame with one random stream."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        choose = rng.choice
        simple: dict[str, tuple[str, ...]] = {
            "adj": words("adjectives"),
            "adv": words("adverbs"),
            "mass": words("abstract"),
            "first": words("first_names"),
            "last": words("last_names"),
            "proper": words("proper"),
            "trade": lexicon("trade"),
            "subj": ("I", "you", "we", "they", "people", "the kids", "my parents", "I", "we"),
            "he": ("he", "she", "it", "he", "she", "nobody", "somebody", "everyone"),
            "it": ("it", "it", "this", "that", "the whole thing", "he", "she"),
            "street": ("Street", "Avenue", "Road", "Drive", "Lane", "Court", "Boulevard", "Way"),
        }
        self.makers: dict[str, Callable[[], str]] = {
            name: partial(choose, options) for name, options in simple.items()
        }
        self.makers |= {name: partial(self._verb, name) for name in _VERB_SLOTS}
        self.makers |= {
            "noun": lambda: choose(words("nouns")).partition("/")[0],
            "nouns": lambda: plural(choose(words("nouns"))),
            "an": lambda: with_article(self._described(self.makers["noun"]())),
            "obj": self._object,
            "person": self._person,
            "place": lambda: "the " + choose(words("places")),
            "words": lambda: " ".join(choose(vocabulary()) for _ in range(rng.randint(2, 7))),
        }
        self.makers |= {name: partial(maker, rng) for name, maker in written_forms.MAKERS.items()}

    def _verb(self, slot: str) -> str:
        entry = self.rng.choice(lexicon("verbs" if slot[0] == "v" else "verbs_intransitive"))
        base = entry.split()[0]
        past, participle = past_forms(entry)
        forms = {"": base, "s": third_person(base), "d": past, "n": participle, "ing": gerund(base)}
        return forms[slot[1:]]

    def _described(self, noun: str) -> str:
        return (
            f"{self.rng.choice(words('adjectives'))} {noun}" if self.rng.random() < 0.35 else noun
        )

    def _object(self) -> str:
        kind = self.rng.random()
        noun = self.rng.choice(words("nouns"))
        if kind < 0.3:
            determiner = self.rng.choice(_DETERMINERS)
            return f"{determiner} {self._described(noun.partition('/')[0])}"
        if kind < 0.5:
            return with_article(self._described(noun.partition("/")[0]))
        if kind < 0.68:
            return f"{self.rng.choice(_PLURAL_DETERMINERS)} {self._described(plural(noun))}".strip()
        if kind < 0.8:
            return self._described(self.rng.choice(words("abstract")))
        if kind < 0.9:
            return self.rng.choice(_PRONOUNS)
        return self._person()

    def _person(self) -> str:
        role = self.rng.choice(words("people")).partition("/")[0]
        kind = self.rng.random()
        if kind < 0.2:
            return self.rng.choice(words("first_names"))
        return f"{self.rng.choice(_DETERMINERS)} {role}"

    def fill(self, frame: str) -> str:
        def replace(match: re.Match[str]) -> str:
            name = match.group(1)
            text = self.makers[name.lower() if name[0].isupper() else name]()
            return text[:1].upper() + text[1:] if name[0].isupper() else text

        return _SLOT.sub(replace, frame)


_VERB_SLOTS = ("v", "vs", "vd", "vn", "ving", "i", "is", "id", "in", "iing")


def sentences(seed: int, *, split: Split = "train") -> Iterator[str]:
    """An endless, seeded stream of written sentences over frames of one side of the split."""
    rng = random.Random(f"open text {split} {seed}")
    filler = _Filler(rng)
    chosen = frames(split)
    while True:
        yield filler.fill(rng.choice(chosen))
