"""Which patterns make sense in which calls: a hair salon's caller does not complain about nails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from analytics.simulator.acts import VERTICALS
from analytics.simulator.entities import read_sections
from analytics.simulator.patterns import Pattern, fits_any_call

Patterns = Mapping[str, tuple[Pattern, ...]]


@cache
def _cues() -> dict[str, dict[str, re.Pattern[str]]]:
    """Start of an act's name → context (line of business or kind of call) → its words."""
    cues: dict[str, dict[str, re.Pattern[str]]] = {}
    for prefix, rows in read_sections("affinity.txt").items():
        for row in rows:
            contexts, _, words = row.partition(":")
            alternatives = "|".join(
                re.escape(word.strip()) for word in words.split(",") if word.strip()
            )
            cue = re.compile(rf"\b(?:{alternatives})", re.IGNORECASE)
            known = cues.setdefault(prefix, {})
            for context in contexts.split(", "):
                known[context] = _either(known.get(context), cue)
    return cues


def _either(one: re.Pattern[str] | None, other: re.Pattern[str]) -> re.Pattern[str]:
    return other if one is None else re.compile(f"{one.pattern}|{other.pattern}", re.IGNORECASE)


@cache
def _contexts(prefix: str, text: str) -> frozenset[str]:
    """The contexts whose words stand in a pattern's text. Kept: every stream of calls asks it of every pattern."""
    return frozenset(context for context, cue in _cues()[prefix].items() if cue.search(text))


def narrow(
    patterns: Patterns, context: str, rivals: frozenset[str]
) -> dict[str, tuple[Pattern, ...]]:
    """The patterns that fit `context`, one of `rivals`; an act left without one that fits any call keeps all."""
    narrowed = dict(patterns)
    for prefix, cues in _cues().items():
        if rivals.isdisjoint(cues):
            continue
        for act in patterns:
            if act.startswith(prefix):
                fitting = _fitting(prefix, narrowed[act], context, rivals)
                if any(fits_any_call(act, pattern) for pattern in fitting):
                    narrowed[act] = fitting
    return narrowed


def _fitting(
    prefix: str, patterns: tuple[Pattern, ...], context: str, rivals: frozenset[str]
) -> tuple[Pattern, ...]:
    fitting = []
    for pattern in patterns:
        contexts = _contexts(prefix, pattern.text)
        if context in contexts or rivals.isdisjoint(contexts):
            fitting.append(pattern)
    return tuple(fitting)


class ContextualPatterns:
    """One split's patterns, narrowed on demand to a vertical, a line of business and a kind of call."""

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._narrowed: dict[tuple[str, str], Patterns] = {}

    def for_call(self, vertical: str, line: str, lines: frozenset[str], kind: str) -> Patterns:
        """The patterns for a call to a business of `line`, one of its vertical's `lines`."""
        key = (line, kind if kind in _CLOSED_KINDS else "")
        found = self._narrowed.get(key)
        if found is None:
            found = narrow(self._patterns, vertical, frozenset(VERTICALS))
            found = narrow(found, line, lines)
            if key[1]:
                found = narrow(found, kind, _CLOSED_KINDS)
            self._narrowed[key] = found
        return found


_CLOSED_KINDS = frozenset({"wrong_number", "solicitation"})
