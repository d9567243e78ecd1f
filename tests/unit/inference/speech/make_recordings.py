"""Makes the recordings of `test_voice_activity`: `python -m tests.unit.inference.speech.make_recordings`.

Run by hand, and only when they are to be others: what it writes is committed, so that no test needs a speech engine
(apt-get install libespeak-ng1 espeak-ng-data libflite1).
"""

import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np

from analytics.simulator.speech.render import render_call
from analytics.simulator.speech.synthesis import speak_written
from analytics.simulator.speech.voices import HELDOUT_ESPEAK_VOICES, KNOWN_VOICES
from analytics.simulator.speech.wav import write_wav

DIRECTORY = Path(__file__).parent / "recordings"
SENTENCES = {
    "opening-hours": "I was wondering whether you could tell me about the opening hours on Sunday.",
    "excuse-me": "Excuse me, my daughter wants to know when you open.",
    "no-wait": "No, no, wait, that is not what I asked for at all.",
}
TURNS = (
    ("agent", "Good morning, Bright Smile Dental, how may I help you today?"),
    ("caller", "Hi, I'd like a filling, if you have anything this week."),
    ("agent", "You're in luck, we have Thursday at 3:15 pm."),
    ("caller", "Okay, that works for me."),
    ("agent", "Have a great day!"),
)
NUM_CALLS = 4


def main() -> None:
    """Write all of them."""
    for seed, (name, text) in enumerate(SENTENCES.items(), start=1):
        samples, _ = speak_written(text, KNOWN_VOICES[0], random.Random(seed))
        write_wav(DIRECTORY / f"{name}.wav", np.asarray(samples)[None])
    turns = {}
    for seed in range(NUM_CALLS):
        voices = HELDOUT_ESPEAK_VOICES if seed % 2 else KNOWN_VOICES
        call = render_call(TURNS, seed, voices=voices)
        write_wav(DIRECTORY / f"call-{seed}.wav", call.audio)
        turns[f"call-{seed}"] = [asdict(turn) for turn in call.turns]
    (DIRECTORY / "turns.json").write_text(json.dumps(turns, indent=1) + "\n")


if __name__ == "__main__":
    main()
