"""Entities of a call: who, what, when, how much. Two texts name the same entity when they are equal once normalised.

All are compared by `words_of`: case, accents, apostrophes and hyphens do not matter. Beyond that
  name: a leading title (Mr., Dr., …) is dropped;
  service: a leading article is dropped;
  appointment: on, at, in, of, the are dropped wherever they stand ("on Tuesday at 3:00 pm" = "Tuesday 3 pm");
  price: only the number counts ("$1,200.00" = "1200 dollars").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from analytics.evaluation.texts import words_of

EntityKind = Literal["name", "service", "appointment", "price"]

ENTITY_FIELDS: Final[dict[EntityKind, str]] = {
    "name": "caller_name",
    "service": "service",
    "appointment": "appointment",
    "price": "price",
}
"""Fields of the summary record that hold entities."""

_LEADING: Final[dict[EntityKind, frozenset[str]]] = {
    "name": frozenset({"mister", "mrs", "ms", "miss", "doctor"}),
    "service": frozenset({"a", "an", "the", "some"}),
}
_WHEN_PARTICLES: Final = frozenset({"on", "at", "in", "of", "the"})


def entity_words(kind: EntityKind, text: str) -> tuple[str, ...]:
    """The words that identify an entity; empty for a text that names none."""
    words = words_of(text)
    if kind in _LEADING and len(words) > 1 and words[0] in _LEADING[kind]:
        words = words[1:]
    elif kind == "appointment":
        words = [word for word in words if word not in _WHEN_PARTICLES]
    elif kind == "price":
        words = [word for word in words if word[0].isdigit()]
    return tuple(words)


def same_entity(kind: EntityKind, first: str | None, second: str | None) -> bool:
    """Whether two texts name the same entity; a missing one equals only another missing one."""
    if first is None or second is None:
        return first is second
    return entity_words(kind, first) == entity_words(kind, second)


def mentions(kind: EntityKind, text: str, entity: str) -> bool:
    """Whether a sentence names the entity: its words stand in it, one after another."""
    words = words_of(text) if kind in ("name", "service") else entity_words(kind, text)
    return contains(words, entity_words(kind, entity))


def contains(words: Sequence[str], run: Sequence[str]) -> bool:
    """Whether `run` stands in `words`, unbroken. An empty run stands nowhere."""
    length = len(run)
    wanted = list(run)
    return length > 0 and any(
        list(words[i : i + length]) == wanted for i in range(len(words) - length + 1)
    )
