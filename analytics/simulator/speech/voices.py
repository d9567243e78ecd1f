"""The voices of simulated callers and agents, and which of them no recogniser ever trains on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

Engine = Literal["espeak", "flite"]


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of one engine. `weight` is its share of training speech.

    `variation` makes many speakers of one: formants and pitch lie up to so much above or below the voice's own.
    """

    engine: Engine
    name: str
    weight: float = 1.0
    variation: float = 0.0

    @property
    def label(self) -> str:
        """`espeak:gmw/en-US+f3`."""
        return f"{self.engine}:{self.name}"


_TRAIN_VARIANTS: Final = {
    "gmw/en-US": (
        " m1 m2 m3 m5 m6 m7 f1 f3 f4 f5 adam Andy anika Annie belinda Denis ed edward Gene grandma grandpa iven "
        "Jacky john Lee linda Mario max Michael Mike paul quincy robert shelby steph travis victor zac"
    ),
    "gmw/en-GB-x-rp": " m2 m3 f1 f3 f4 Andy Annie steph Lee",
    "gmw/en": " m1 m7 f1 f5 belinda max",
    "gmw/en-GB-scotland": " m1 m2 m3 m5 m6 m7 f1 f3 f4 f5 Andy Lee Michael max",
    "gmw/en-029": "m1 f4",
    "gmw/en-US-nyc": "m3 f1 Gene",
}
_HELDOUT_VARIANTS: Final = {
    "gmw/en-US": "m4 m8 f2 Alex Marco steph2",
    "gmw/en-GB-x-rp": "f2 m4",
}
# The plain voice and the usual variants carry most calls; accents are the seasoning.
_ACCENT_SHARE: Final = {
    "gmw/en-US": 0.5,
    "gmw/en-GB-x-rp": 0.14,
    "gmw/en": 0.11,
    "gmw/en-GB-scotland": 0.16,
    "gmw/en-029": 0.04,
    "gmw/en-US-nyc": 0.05,
}
_ESPEAK_SHARE: Final = 0.58
# As far apart as grown speakers lie: with less, a recogniser knows four people by heart and no fifth.
_FLITE_VARIATION: Final = 0.2


def _espeak(accent: str, variants: str, share: float) -> tuple[Voice, ...]:
    names = variants.split(" ") if variants.startswith(" ") else variants.split()
    voices = [f"{accent}+{name}" if name else accent for name in names]
    return tuple(Voice("espeak", name, share / len(voices)) for name in voices)


TRAINING_VOICES: Final = (
    *(
        voice
        for accent, variants in _TRAIN_VARIANTS.items()
        for voice in _espeak(accent, variants, _ESPEAK_SHARE * _ACCENT_SHARE[accent])
    ),
    # The two statistical voices are the nearest to people, and cost ten times as much to synthesise as the others: at
    # 34 % of the speech they halved its hours, and open text and names were heard worse.
    Voice("flite", "slt", 0.145, _FLITE_VARIATION),
    Voice("flite", "rms", 0.155, _FLITE_VARIATION),
    Voice("flite", "kal", 0.06, _FLITE_VARIATION),
    Voice("flite", "kal16", 0.06, _FLITE_VARIATION),
)
KNOWN_VOICES: Final = tuple(replace(voice, variation=0.0) for voice in TRAINING_VOICES)
"""The voices of training as they are: what a recogniser that was trained on them is tested with."""

HELDOUT_ESPEAK_VOICES: Final = tuple(
    voice
    for accent, variants in _HELDOUT_VARIANTS.items()
    for voice in _espeak(accent, variants, 1.0)
)
HELDOUT_FLITE_VOICES: Final = (Voice("flite", "awb"),)
