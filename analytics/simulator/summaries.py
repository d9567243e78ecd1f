"""The wording of summaries and next steps: a fixed function of a call's labels, so that it can be learnt exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MAX_LENGTH: Final = 180

_WISHES: Final = {
    "book": "wanted to book a visit",
    "reschedule": "asked to move an appointment",
    "cancel": "asked to cancel an appointment",
    "price": "asked about a price",
    "question": "asked {about_topic}",
    "complaint": "complained about a service",
    "emergency": "needed urgent help",
    "message": "asked for a call back",
    "solicitation": "tried to sell something",
    "unknown": "did not say why they called",
    "not_applicable": "reached the wrong number",
}
_RESULTS: Final = {
    "booked": "The agent booked it{for_when}.",
    "rescheduled": "The agent moved it{to_when}.",
    "cancelled": "The agent cancelled it.",
    "message_taken": "The agent took a message.",
    "transferred": "The agent transferred the call.",
    "answered": "The agent answered{quoting}.",
    "declined": "They did not go ahead{at_price}.",
    "unresolved": "The agent could not resolve it.",
    "not_applicable": "The agent ended the call.",
}
_WORRIES: Final = {
    "price": "They objected to the price.",
    "timing": "They objected to the timing.",
    "trust": "They had doubts about the business.",
    "competitor": "They named a competitor.",
}
_BROKEN_OFF: Final = "The call ended without a result."
_SILENT: Final = "Nobody spoke on this call."
_NO_CALLER: Final = "The caller did not say anything."

_NEXT_STEPS: Final = {
    "booked": "Send a confirmation.",
    "rescheduled": "Send the new time.",
    "cancelled": "Offer to rebook later.",
    "message_taken": "Call the caller back.",
    "transferred": "Check that the transfer was answered.",
    "answered": None,
    "declined": "Follow up in a few weeks.",
    "unresolved": "Call the caller back to resolve it.",
    "not_applicable": None,
}
_BROKEN_OFF_STEP: Final = "Call the caller back, the call broke off."


def next_step(outcome: str, closed: bool) -> str | None:
    """What the team does next. `closed`: the agent brought the call to an end."""
    if outcome == "unresolved" and not closed:
        return _BROKEN_OFF_STEP
    return _NEXT_STEPS[outcome]


def summarize(
    *,
    intent: str,
    outcome: str,
    closed: bool,
    caller_spoke: bool,
    agent_spoke: bool,
    objection: str,
    topic: str | None,
    entities: Mapping[str, str | None],
) -> str:
    """What the caller wanted (of which service), what came of it, what they objected to: 180 characters at most."""
    if not caller_spoke:
        return _NO_CALLER if agent_spoke else _SILENT
    service = entities["service"]
    about = f" ({service})" if service else ""
    wished = _WISHES[intent].format(about_topic=f"about {topic}" if topic else "a question")
    wish = f"{entities['caller_name'] or 'The caller'} {wished}{about}."
    if intent == "not_applicable":
        return wish
    when = entities["appointment"]
    price = entities["price"]
    result = _BROKEN_OFF
    if closed or outcome == "not_applicable":
        result = _RESULTS[outcome].format(
            for_when=f" for {when}" if when else "",
            to_when=f" to {when}" if when else "",
            quoting=f", quoting {price}" if price else "",
            at_price=f" at {price}" if price else "",
        )
    summary = f"{wish} {result}"
    worry = _WORRIES.get(objection)
    if worry is not None and len(summary) + 1 + len(worry) <= MAX_LENGTH:
        return f"{summary} {worry}"
    return summary
