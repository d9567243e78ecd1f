"""Which patterns make sense in which calls: a hair salon's caller does not complain about nails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from analytics.simulator.entities import read_sections
from analytics.simulator.patterns import Pattern

Patterns = Mapping[str, tuple[Pattern, ...]]


@cache
def _cues() -> dict[str, dict[str, re.Pattern[str]]]:
    """Start of an act's name → context (line of business or kind of call) → its words."""
    cues: dict[str, dict[str, re.Pattern[str]]] = {}
    for prefix, rows in read_sections("affinity.txt").items():
        for row in rows:
            context, _, words = row.partition(":")
            alternatives = "|".join(
                re.escape(word.strip()) for word in words.split(",") if word.strip()
            )
            cues.setdefault(prefix, {})[context] = re.compile(
                rf"\b(?:{alternatives})", re.IGNORECASE
            )
    return cues


def _fitting(
    patterns: tuple[Pattern, ...], context: str, rivals: dict[str, re.Pattern[str]]
) -> tuple[Pattern, ...]:
    kept = []
    for pattern in patterns:
        if rivals[context].search(pattern.text) or not any(
            cue.search(pattern.text) for cue in rivals.values()
        ):
            kept.append(pattern)
    return tuple(kept) or patterns


def narrow(
    patterns: Patterns, context: str, rivals: frozenset[str]
) -> dict[str, tuple[Pattern, ...]]:
    """The patterns that fit `context`, one of the mutually exclusive `rivals`; an act without any keeps all."""
    narrowed = dict(patterns)
    for prefix, cues in _cues().items():
        relevant = {name: cue for name, cue in cues.items() if name in rivals}
        if context not in relevant:
            continue
        for act in patterns:
            if act.startswith(prefix):
                narrowed[act] = _fitting(patterns[act], context, relevant)
    return narrowed


class ContextualPatterns:
    """One split's patterns, narrowed on demand to a line of business and a kind of call."""

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._narrowed: dict[tuple[str, str], Patterns] = {}

    def for_call(self, line: str, lines: frozenset[str], kind: str) -> Patterns:
        """The patterns for a call to a business of `line`, one of its vertical's `lines`."""
        key = (line, kind if kind in _CLOSED_KINDS else "")
        found = self._narrowed.get(key)
        if found is None:
            found = narrow(self._patterns, line, lines)
            if key[1]:
                found = narrow(found, kind, _CLOSED_KINDS)
            self._narrowed[key] = found
        return found


_CLOSED_KINDS = frozenset({"wrong_number", "solicitation"})
