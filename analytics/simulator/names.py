"""Names that no list holds: made of syllables, so that a model learns to copy names instead of remembering them."""

from __future__ import annotations

from random import Random
from typing import Final

from analytics.simulator.patterns import is_heldout

_ONSETS: Final = "B Br C Ch D Dr F G Gr H J K Kr L M N P Pr R S Sh St T Th Tr V W Y Z Bl Cl Fl Gl Pl Sl Sw Kw Ts Zh Mc De La".split()
_MIDDLES: Final = "b d f g k l ll m n nd nk r rr s sh st t tt v z ch rm rn ld lt ng mb sk".split()
_VOWELS: Final = "a e i o u a e i o ai ea ee ia io oo ou ay".split()
_FIRST_ENDS: Final = (
    "a o i n na la el en ie y ine ette on is ah ra ria us as eth il ko mi sha ya".split()
)
_LAST_ENDS: Final = "son er man ez ski ov in ini elli ton ley ford berg wood well sen ard ic oglu ian wala ker field den sky moto yama dez gan".split()

_Syllables = list[str]


def _pick(random: Random, items: _Syllables) -> str:
    return items[int(random.random() * len(items))]


def _word(random: Random, ends: _Syllables) -> str:
    word = _pick(random, _ONSETS) + _pick(random, _VOWELS)
    if random.random() < 0.75:
        word += _pick(random, _MIDDLES)
        if random.random() < 0.3:
            word += _pick(random, _VOWELS) + _pick(random, _MIDDLES)
    elif ends is _LAST_ENDS:
        word += _pick(random, _MIDDLES)
    return word + _pick(random, ends)


def pseudo_first_name(random: Random) -> str:
    """A first name of syllables, never one that the name split holds out."""
    while is_heldout(word := _word(random, _FIRST_ENDS)):
        pass
    return word


def pseudo_last_name(random: Random) -> str:
    """A last name of syllables, never one that the name split holds out."""
    while is_heldout(word := _word(random, _LAST_ENDS)):
        pass
    return word
