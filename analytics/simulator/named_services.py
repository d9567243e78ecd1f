"""What a request is about when its pattern names the service in its own words instead of through a slot."""

from __future__ import annotations

import re
from functools import cache

from analytics.simulator.entities import read_sections, semicolons

_SECTION_OF = {"book": "wanted", "price": "wanted", "complaint": "trouble", "emergency": "trouble"}


@cache
def _phrases() -> dict[str, re.Pattern[str]]:
    """`wanted.salon` → its phrases; longer ones first, so that "beard trim" is not taken for "trim"."""
    found = {}
    for section, rows in read_sections("named_services.txt").items():
        phrases = sorted({item for row in rows for item in semicolons(row)}, key=len, reverse=True)
        found[section] = re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})\b")
    return found


@cache
def named_service(act: str, pattern: str) -> str | None:
    """The service that this pattern of a request act names, as it stands there; None when it names none."""
    kind, _, vertical = act.removeprefix("caller.request.").partition(".")
    phrases = _phrases().get(f"{_SECTION_OF.get(kind, '')}.{vertical}")
    match = phrases.search(pattern) if phrases else None
    return match.group() if match else None
