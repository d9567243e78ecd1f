"""Fingerprints: what must be equal for two results to be the same result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any


def fingerprint(parts: Mapping[str, Any]) -> str:
    """SHA-256 of `parts` (JSON values), in hexadecimal, independent of their order."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@cache
def model_digest(model: str) -> str:
    """SHA-256 over the files of a model directory, or the name itself for a model from a hub.

    A hub name stands for whatever the hub serves under it; pin a revision or use a directory where that matters.
    """
    directory = Path(model)
    if not directory.is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.is_file() and path.suffix != ".md":
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def code_version() -> str:
    """The installed version of Aftercall."""
    return version("aftercall")
