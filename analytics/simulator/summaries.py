"""The wording of summaries and next steps: a fixed function of a call's labels, so that it can be learnt exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MAX_LENGTH: Final = 180

_WISH: Final = {
    "book": "wanted to book {subject}",
    "reschedule": "asked to move an appointment{for_service}",
    "cancel": "asked to cancel an appointment{for_service}",
    "price": "asked what {subject} costs",
    "question": "had a question{about_service}",
    "complaint": "complained{about_service}",
    "emergency": "needed urgent help{with_service}",
    "message": "asked for a call back{about_service}",
    "solicitation": "tried to sell something",
    "unknown": "did not say why they called",
}
_DOUBTS: Final = {
    "price": "the price",
    "timing": "the timing",
    "trust": "whom to trust",
    "competitor": "leaving a competitor",
}
_RESULTS: Final = {
    "booked": "The agent booked it{for_when}.",
    "rescheduled": "The agent moved it{to_when}.",
    "cancelled": "The agent cancelled it.",
    "message_taken": "The agent took a message.",
    "transferred": "The agent transferred the call.",
    "answered": "The agent answered{price}.",
    "declined": "The caller did not go ahead{price}.",
    "unresolved": "The agent could not resolve it.",
    "not_applicable": "The agent ended the call.",
}
_BROKEN_OFF: Final = "The call ended without a result."
_SILENT: Final = "Nobody spoke on this call."
_NO_CALLER: Final = "The caller did not say anything."
_WRONG_NUMBER: Final = "reached the wrong number"

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
    subject: str | None,
    entities: Mapping[str, str | None],
) -> str:
    """One sentence on what the caller wanted, one on what came of it. `subject`: the service with its article."""
    if not caller_spoke:
        return _NO_CALLER if agent_spoke else _SILENT
    name = entities["caller_name"] or "The caller"
    if intent == "not_applicable":
        return f"{name} {_WRONG_NUMBER}."
    wish = _WISH[intent].format(
        subject=subject or ("a visit" if intent == "book" else "it"),
        for_service=f" for {subject}" if subject else "",
        about_service=f" about {subject.removeprefix('help with ')}" if subject else "",
        with_service=f" with {subject.removeprefix('help with ')}" if subject else "",
    )
    when = entities["appointment"]
    price = entities["price"]
    result = _BROKEN_OFF
    if closed or outcome == "not_applicable":
        result = _RESULTS[outcome].format(
            for_when=f" for {when}" if when else "",
            to_when=f" to {when}" if when else "",
            price=f", quoting {price}"
            if price and outcome == "answered"
            else f" at {price}"
            if price
            else "",
        )
    worry = f" They had doubts about {_DOUBTS[objection]}." if objection in _DOUBTS else ""
    return f"{name} {wish}. {result}{worry}"[:MAX_LENGTH]
