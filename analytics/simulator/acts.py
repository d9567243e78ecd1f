"""The acts of a simulated call: who performs each, and which slots its patterns may use.

An act is one thing a speaker does with an utterance ("gives their name", "offers a time"). Every act has one file of
hand-written patterns in `bank/<act>.txt`. Labels are derived from acts, never from pattern text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COMMON_SLOTS: Final = frozenset({"business", "agent", "person", "service", "a_service"})

MOOD_SLOTS: Final = frozenset({"praise", "treasure", "glad", "scorn", "disgrace", "upset"})
"""Filled anew in every utterance, from `lexicon/moods.txt`: they are no facts of the call."""

SLOTS: Final = (
    COMMON_SLOTS
    | MOOD_SLOTS
    | {
        "caller",
        "issue",
        "day",
        "time",
        "when",
        "other_when",
        "other_day",
        "price",
        "budget",
        "phone",
        "address",
        "topic",
        "answer",
        "competitor",
    }
)

VERTICALS: Final = ("salon", "clinic", "real_estate", "home_services", "after_hours")
PRICED_VERTICALS: Final = ("salon", "clinic", "real_estate", "home_services")
EMERGENCY_VERTICALS: Final = ("home_services", "clinic", "after_hours")
ISSUE_VERTICALS: Final = ("home_services", "clinic", "after_hours")


def _act_slots() -> dict[str, frozenset[str]]:
    """Act name → slots it may use beyond the common ones."""
    extra: dict[str, str] = {
        "agent.greet": "",
        "agent.greet_after_hours": "",
        "agent.ask_need": "",
        "agent.ask_name": "",
        "agent.ask_phone": "",
        "agent.ask_address": "",
        "agent.ask_day": "",
        "agent.ask_budget": "",
        "agent.ask_authority": "",
        "agent.ask_timeline": "",
        "agent.ask_urgency": "",
        "agent.offer_slot": "when",
        "agent.offer_other_slot": "when",
        "agent.quote_price": "price",
        "agent.answer": "answer",
        "agent.tool_start": "",
        "agent.tool_failed": "",
        "agent.tool_timeout": "",
        "agent.tool_ok": "",
        "agent.apologize": "",
        "agent.ack": "",
        "agent.clarify": "",
        "agent.read_back": "caller phone",
        "agent.handle_objection": "",
        "agent.emergency_advice": "",
        "agent.smalltalk": "",
        "agent.close.booked": "when caller",
        "agent.close.rescheduled": "when",
        "agent.close.cancelled": "other_when",
        "agent.close.message": "phone caller",
        "agent.close.transferred": "",
        "agent.close.answered": "",
        "agent.close.declined": "",
        "agent.close.unresolved": "",
        "agent.close.not_applicable": "",
        "agent.anything_else": "",
        "agent.goodbye": "",
        "caller.request.reschedule": "other_when when",
        "caller.request.cancel": "other_when",
        "caller.request.question": "topic",
        "caller.request.message": "phone",
        "caller.request.solicitation": "",
        "caller.request.wrong_number": "",
        "caller.give_name": "caller",
        "caller.give_phone": "phone",
        "caller.give_address": "address",
        "caller.accept_slot": "",
        "caller.decline_slot": "when",
        "caller.ask_for_slot": "when",
        "caller.ask_price_midway": "",
        "caller.followup_question": "",
        "caller.budget.fits": "price budget",
        "caller.budget.stretch": "price budget",
        "caller.budget.over": "price budget",
        "caller.budget.unknown": "",
        "caller.objection.price": "",
        "caller.objection.timing": "",
        "caller.objection.trust": "",
        "caller.objection.competitor": "competitor",
        "caller.mood.neutral.end": "",
        "caller.tool_wait": "",
        "caller.tool_annoyed": "",
        "caller.opener": "",
        "caller.backchannel": "",
        "caller.smalltalk": "",
        "caller.injection": "",
        "caller.confirm_yes": "",
        "caller.no_more": "",
        "caller.hold_on": "",
        "caller.mishear": "",
        "caller.interrupt": "",
    }
    for vertical in VERTICALS:
        extra[f"caller.request.book.{vertical}"] = "issue" if vertical in ISSUE_VERTICALS else ""
    for vertical in PRICED_VERTICALS:
        extra[f"caller.request.price.{vertical}"] = ""
        extra[f"caller.request.complaint.{vertical}"] = ""
    for vertical in EMERGENCY_VERTICALS:
        extra[f"caller.request.emergency.{vertical}"] = "issue"
    for place in ("start", "mid", "end"):
        extra[f"caller.mood.positive.{place}"] = "praise treasure glad"
        extra[f"caller.mood.negative.{place}"] = "scorn disgrace upset"
    for urgency in ("high", "medium", "low"):
        extra[f"caller.urgency.{urgency}"] = ""
    for authority in ("self", "shared", "other"):
        extra[f"caller.authority.{authority}"] = ""
    for timeline in ("today", "week", "month", "later", "unknown"):
        extra[f"caller.timeline.{timeline}"] = ""
    for commitment in ("committed", "considering", "refused"):
        extra[f"caller.commitment.{commitment}"] = ""
    return {act: frozenset(slots.split()) for act, slots in extra.items()}


ACTS: Final[Mapping[str, frozenset[str]]] = _act_slots()

REQUIRED_SLOT: Final[Mapping[str, str]] = {
    "agent.answer": "answer",
    "caller.give_name": "caller",
    "caller.give_phone": "phone",
    "caller.give_address": "address",
    "caller.ask_for_slot": "when",
}
"""Slots without which a pattern of the act would say nothing."""


def role_of(act: str) -> str:
    """`agent` or `caller`: the first part of the act's name."""
    return act.partition(".")[0]
