"""A Hugging Face Whisper directory to the CTranslate2 directory that faster-whisper loads."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ctranslate2.converters import TransformersConverter

from inference.training.asr.export import assemble_checkpoint


def convert(checkpoint: Path, output: Path) -> Path:
    """Convert a directory written by training into an int8 CTranslate2 model; `output` is replaced.

    Writes `config.json`, `model.bin`, `vocabulary.json`, `tokenizer.json` and `preprocessor_config.json`, all that
    faster-whisper needs offline. Raises FileNotFoundError when the checkpoint is incomplete.
    """
    with tempfile.TemporaryDirectory() as work:
        source = Path(work)
        assemble_checkpoint(checkpoint, source)
        TransformersConverter(
            str(source), copy_files=["tokenizer.json", "preprocessor_config.json"]
        ).convert(str(output), quantization="int8", force=True)
    return output
