"""How often what happens in simulated calls: every share that the facts are drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from analytics.simulator.acts import EMERGENCY_VERTICALS, PRICED_VERTICALS, VERTICALS
from analytics.simulator.draws import Draw
from analytics.simulator.facts import Kind

KIND = Draw[Kind](
    {
        "conversation": 86.5,
        "voicemail": 2.5,
        "wrong_number": 3.4,
        "solicitation": 4.2,
        "no_speech": 1.4,
        "hang_up": 2.0,
    }
)
VERTICAL = Draw(dict.fromkeys(VERTICALS, 1.0))
INTENT_WEIGHTS: Final = {
    "book": 25.0,
    "price": 14.0,
    "question": 12.0,
    "reschedule": 11.0,
    "cancel": 9.0,
    "complaint": 12.0,
    "emergency": 12.0,
    "message": 9.0,
}


def _intents(vertical: str) -> Draw[str]:
    weights = dict(INTENT_WEIGHTS)
    if vertical not in EMERGENCY_VERTICALS:
        del weights["emergency"]
    if vertical not in PRICED_VERTICALS:
        del weights["price"], weights["complaint"]
    return Draw(weights)


INTENT = {vertical: _intents(vertical) for vertical in VERTICALS}
OUTCOME = {
    "book": Draw(
        {"booked": 44, "declined": 21, "unresolved": 13, "message_taken": 11, "transferred": 11}
    ),
    "price": Draw(
        {
            "answered": 30,
            "booked": 22,
            "declined": 24,
            "message_taken": 8,
            "transferred": 8,
            "unresolved": 8,
        }
    ),
    "question": Draw(
        {"answered": 55, "booked": 12, "message_taken": 12, "transferred": 12, "unresolved": 9}
    ),
    "reschedule": Draw(
        {"rescheduled": 66, "unresolved": 13, "message_taken": 11, "transferred": 10}
    ),
    "cancel": Draw({"cancelled": 72, "unresolved": 10, "message_taken": 9, "transferred": 9}),
    "complaint": Draw({"message_taken": 34, "transferred": 28, "unresolved": 20, "booked": 18}),
    "emergency": Draw({"transferred": 42, "message_taken": 20, "booked": 26, "unresolved": 12}),
    "message": Draw({"message_taken": 70, "transferred": 18, "unresolved": 12}),
    "solicitation": Draw({"not_applicable": 84, "message_taken": 16}),
    "not_applicable": Draw({"not_applicable": 1}),
    "unknown": Draw({"unresolved": 1}),
}

LEAD_SHARES: Final[Mapping[str, Mapping[str, float]]] = {
    "book": {"urgency": 0.6, "timeline": 0.62, "authority": 0.62, "objection": 0.55},
    "price": {"urgency": 0.5, "timeline": 0.62, "authority": 0.62, "objection": 0.6},
    "question": {"urgency": 0.3, "timeline": 0.4, "authority": 0.45, "objection": 0.4},
    "reschedule": {"urgency": 0.3, "timeline": 0.3, "authority": 0.15, "objection": 0.2},
    "cancel": {"timeline": 0.12, "authority": 0.15, "objection": 0.45},
    "complaint": {"urgency": 0.35, "timeline": 0.3, "authority": 0.25, "objection": 0.3},
    "emergency": {"timeline": 0.3, "authority": 0.35, "objection": 0.25},
    "message": {"urgency": 0.4, "timeline": 0.1, "authority": 0.2, "objection": 0.2},
}
"""How often each intent's callers speak of each lead feature."""
QUOTED_SHARE: Final = {"book": 0.72, "price": 0.9, "question": 0.3, "emergency": 0.12}
BUDGET_SHARE: Final = 0.85
NO_QUOTE_BUDGET_SHARE: Final = {"book": 0.15, "price": 0.2, "question": 0.08}

URGENCY = Draw({"high": 1, "medium": 1.25, "low": 1.25})
TIMELINE = Draw({"today": 1, "week": 1, "month": 1, "later": 1, "unknown": 0.5})
LATER = Draw({"later": 1, "unknown": 0.5})
FITTING_URGENCY: Final = {
    "later": Draw({"low": 1, "medium": 0.3}),
    "month": Draw({"low": 1, "medium": 1}),
    "today": Draw({"high": 1, "medium": 0.5}),
}
AUTHORITY = Draw({"self": 1, "shared": 1, "other": 1})
BUDGET = Draw({"fits": 1, "stretch": 1, "over": 0.8, "unknown": 0.4})
OBJECTION = Draw({"price": 0.8, "timing": 1, "trust": 1, "competitor": 1})
COMMITMENT = {
    "booked": Draw({"committed": 0.6, None: 0.4}),
    "rescheduled": Draw({"committed": 0.2, None: 0.8}),
    "declined": Draw({"refused": 0.52, "considering": 0.36, None: 0.12}),
    "answered": Draw({"considering": 0.4, "refused": 0.14, None: 0.46}),
    "unresolved": Draw({"committed": 0.3, "considering": 0.15, "refused": 0.1, None: 0.45}),
    "message_taken": Draw({"committed": 0.22, "considering": 0.25, "refused": 0.04, None: 0.49}),
    "transferred": Draw({"committed": 0.22, "considering": 0.25, "refused": 0.04, None: 0.49}),
}
BUYING: Final = {"book", "price"}
MOOD_START = Draw({"positive": 0.24, "negative": 0.18, None: 0.58})
MOOD_MID = Draw({"positive": 0.13, "negative": 0.1, None: 0.77})
MOOD_END = Draw({"positive": 0.32, "negative": 0.2, "neutral": 0.28, None: 0.2})
TOOL = Draw({None: 0.55, "ok": 0.2, "slow": 0.14, "recovered": 0.11})
TOOL_REACTION = Draw({"tool_wait": 0.3, "tool_annoyed": 0.2, None: 0.5})
DISTANCE: Final = {
    None: Draw({"today": 0.12, "week": 0.5, "month": 0.25, "later": 0.13}),
    "today": Draw({"today": 1}),
    "week": Draw({"week": 0.85, "today": 0.15}),
    "month": Draw({"month": 0.8, "week": 0.2}),
    "later": Draw({"later": 1}),
    "unknown": Draw({"week": 0.4, "month": 0.35, "later": 0.25}),
}
URGENT_DISTANCE = Draw({"today": 0.7, "week": 0.3})
MADE_UP_NAME_SHARE: Final = 0.6  # of first and of last names in training
NAME_SHARE: Final = {"question": 0.45, "price": 0.5, "solicitation": 0.4, "not_applicable": 0.15}
