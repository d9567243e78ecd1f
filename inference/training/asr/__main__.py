"""`python -m inference.training.asr TRAINED OUTPUT`: what a training run wrote to a directory for faster-whisper."""

from __future__ import annotations

import sys
from pathlib import Path

from inference.training.asr.convert import convert

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(convert(Path(sys.argv[1]), Path(sys.argv[2])))
