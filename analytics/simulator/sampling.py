"""Drawing the facts of a call, as independent of each other as sense allows."""

from __future__ import annotations

from random import Random
from typing import Literal

from analytics.simulator import shares
from analytics.simulator.calendar import Moment, pick_moment, pick_other
from analytics.simulator.draws import pick
from analytics.simulator.entities import (
    Issue,
    Line,
    Service,
    load_names,
    load_shared,
    load_verticals,
)
from analytics.simulator.facts import NO_LEAD, Facts, Kind, Lead
from analytics.simulator.names import NameEnds, made_up_name

NameSplit = Literal["train", "listed", "heldout"]
"""Whose names callers bear: training's (listed and made-up ones), only the listed ones of these, or held-out ones."""


def _caller_name(random: Random, split: NameSplit) -> str:
    names = load_names(split == "heldout")

    def draw(listed: tuple[str, ...], ends: NameEnds) -> str:
        if split == "train" and random.random() < shares.MADE_UP_NAME_SHARE:
            return made_up_name(random, ends)
        return pick(random, listed)

    first = draw(names.first, "first_ends")
    if random.random() < 0.22:
        return first
    last = draw(names.last, "last_ends")
    if random.random() < 0.03:
        return f"{first} {last}-{pick(random, names.last)}"[:40]
    return f"{first} {last}"


def _phone(random: Random) -> str:
    number = f"555 01{int(random.random() * 100):02d}"
    return f"{201 + int(random.random() * 788)} {number}" if random.random() < 0.55 else number


def _rounded(amount: float) -> int:
    step = 5 if amount < 400 else 25 if amount < 5000 else 5000
    return max(step, round(amount / step) * step)


def _amounts(random: Random, service: Service, budget_fit: str | None) -> tuple[str, str]:
    """(price, budget) in dollars; the budget is on the side of the price that the fit says."""
    price = _rounded(service.low + random.random() * (service.high - service.low))
    if price < 400 and random.random() < 0.25:
        price += int(random.random() * 4) + 1
    share = random.random()
    if budget_fit == "stretch":
        budget = _rounded(price * (0.72 + 0.22 * share))
    elif budget_fit == "over":
        budget = _rounded(price * (0.35 + 0.3 * share))
    else:
        budget = _rounded(price * (1.1 + 0.4 * share))
    if budget == price or (budget_fit in ("stretch", "over") and budget >= price):
        budget = max(1, price - 5) if budget_fit in ("stretch", "over") else price + 25
    return f"${price:,}", f"${budget:,}"


def _subject(random: Random, line: Line, intent: str) -> tuple[Service, Issue | None]:
    if intent == "emergency" or (line.issues and random.random() < 0.5):
        issue = pick(random, line.urgent_issues if intent == "emergency" else line.issues)
        service = next(service for service in line.services if service.name == issue.service)
        return service, issue
    return pick(random, line.services), None


def _line(random: Random, lines: tuple[Line, ...], intent: str) -> Line:
    if intent == "emergency":
        lines = tuple(line for line in lines if line.urgent_issues)
    return pick(random, lines)


def _commitment(random: Random, intent: str, outcome: str) -> str | None:
    if outcome not in shares.COMMITMENT:
        return None
    commitment = shares.COMMITMENT[outcome](random)
    if intent in shares.BUYING or outcome in ("booked", "declined") or random.random() < 0.35:
        return commitment
    return None


def _timeline(random: Random, intent: str, share: float) -> str | None:
    if random.random() >= share:
        return None
    if intent == "emergency":
        return "today"
    return shares.LATER(random) if intent == "cancel" else shares.TIMELINE(random)


def _money(
    random: Random, kind: Kind, vertical: str, intent: str, outcome: str
) -> tuple[bool, str | None]:
    """(the price is quoted, what the caller says to it). Only a quoted price can fit or not."""
    if kind not in ("conversation", "voicemail"):
        return False, None
    must = intent == "price" and outcome in ("answered", "booked", "declined")
    quoted = must or random.random() < shares.QUOTED_SHARE.get(intent, 0.0)
    if not quoted or vertical == "after_hours" or kind == "voicemail":
        return False, "unknown" if random.random() < shares.NO_QUOTE_BUDGET_SHARE.get(
            intent, 0.0
        ) else None
    budget_fit = shares.BUDGET(random) if random.random() < shares.BUDGET_SHARE else None
    if budget_fit == "over" and outcome == "booked":
        budget_fit = "stretch" if random.random() < 0.6 else "fits"
    return True, budget_fit


def _urgency(random: Random, intent: str, timeline: str | None, share: float) -> str | None:
    if intent == "emergency":
        return "high" if random.random() < 0.4 else None
    if random.random() >= share:
        return None
    fitting = shares.FITTING_URGENCY.get(timeline or "")
    return (fitting or shares.URGENCY)(random)


def _topic(random: Random) -> tuple[Kind, str, str, str]:
    """(kind, vertical, intent, outcome) of a call."""
    kind = shares.KIND(random)
    vertical = shares.VERTICAL(random)
    if kind in ("wrong_number", "no_speech"):
        intent = "not_applicable"
    elif kind == "solicitation":
        intent = "solicitation"
    elif kind == "hang_up":
        intent = "unknown"
    else:
        intent = shares.INTENT[vertical](random)
    outcome = "message_taken" if kind == "voicemail" else shares.OUTCOME[intent](random)
    return kind, vertical, intent, outcome


def _lead(random: Random, kind: Kind, vertical: str, intent: str, outcome: str) -> Lead:
    """What the caller lets on about themselves, free of contradictions ("sign me up" and "I can't afford it")."""
    if kind not in ("conversation", "voicemail"):
        return NO_LEAD
    often = shares.LEAD_SHARES[intent]
    timeline = _timeline(random, intent, often.get("timeline", 0.0))
    urgency = _urgency(random, intent, timeline, often.get("urgency", 0.0))
    if urgency == "high" and timeline in ("later", "month"):
        timeline = "week"
    quoted, budget_fit = _money(random, kind, vertical, intent, outcome)
    objection = shares.OBJECTION(random) if random.random() < often.get("objection", 0.0) else None
    if objection == "price" and not quoted:
        quoted = (
            vertical != "after_hours" and kind == "conversation" and intent in shares.QUOTED_SHARE
        )
        objection = "price" if quoted else "timing"
    if intent == "emergency" and objection is not None:
        objection = "timing" if random.random() < 0.5 else "trust"
    commitment = _commitment(random, intent, outcome)
    if budget_fit == "over" and commitment == "committed":
        commitment = "considering"
    if outcome == "declined" and commitment is None and budget_fit != "over":
        objection = objection or "timing"
    authority = shares.AUTHORITY(random) if random.random() < often.get("authority", 0.0) else None
    return Lead(urgency, timeline, authority, budget_fit, commitment, objection, quoted)


def _times(random: Random, intent: str, lead: Lead) -> tuple[Moment, Moment, Moment]:
    """(appointment, a refused time, the old appointment), on three different days."""
    urgent = lead.urgency == "high" or intent == "emergency"
    distance = shares.URGENT_DISTANCE if urgent else shares.DISTANCE[lead.timeline]
    appointment = pick_moment(random, distance(random))
    refused = pick_other(random, "week", appointment)
    return appointment, refused, pick_other(random, "week", appointment, refused)


def sample_facts(random: Random, *, names: NameSplit) -> Facts:
    """Draws one call's facts. All randomness comes from `random`."""
    kind, vertical_name, intent, outcome = _topic(random)
    vertical = load_verticals()[vertical_name]
    line = _line(random, vertical.lines, intent)
    service, issue = _subject(random, line, intent)
    lead = _lead(random, kind, vertical_name, intent, outcome)
    appointment, refused, previous = _times(random, intent, lead)
    price, budget = _amounts(random, service, lead.budget_fit)
    shared = load_shared()
    topic, answer = pick(random, vertical.questions)
    talks = kind in ("conversation", "voicemail")
    tool = _tool(random, intent, outcome) if kind == "conversation" else None
    visited = vertical_name in ("home_services", "after_hours") and talks
    return Facts(
        kind=kind,
        vertical=vertical_name,
        intent=intent,
        outcome=outcome,
        line=line.name,
        business=pick(random, line.businesses),
        agent=pick(random, shared.agents),
        person=pick(random, vertical.staff),
        caller=_caller_name(random, names),
        gives_name=random.random() < shares.NAME_SHARE.get(intent, 0.84),
        gives_phone=talks and random.random() < (0.75 if outcome == "message_taken" else 0.35),
        gives_address=visited
        and random.random() < (0.5 if outcome in ("booked", "rescheduled", "transferred") else 0.2),
        service=service,
        issue=issue,
        phone=_phone(random),
        address=f"{1 + int(random.random() ** 2 * 2400)} {pick(random, shared.streets)}",
        appointment=appointment,
        refused=refused,
        previous=previous,
        offers=0 if tool == "failed" else _offers(random, intent, outcome, lead.commitment),
        price=price,
        budget=budget,
        topic=topic,
        answer=answer,
        competitor=pick(random, shared.competitors),
        lead=lead,
        mood_start=None if intent == "complaint" else shares.MOOD_START(random),
        mood_mid=shares.MOOD_MID(random) if talks else None,
        mood_end=shares.MOOD_END(random),
        tool=tool,
        tool_reaction=shares.TOOL_REACTION(random) if tool not in (None, "ok") else None,
        injection=random.random() < 0.05,
        smalltalk=random.random() < 0.12,
        cut=random.random() < 0.06,
    )


def _tool(random: Random, intent: str, outcome: str) -> str | None:
    if outcome == "unresolved":
        return "failed" if random.random() < 0.75 else shares.TOOL(random)
    if (
        outcome in ("message_taken", "transferred")
        and intent != "message"
        and random.random() < 0.3
    ):
        return "failed"
    return shares.TOOL(random)


def _offers(random: Random, intent: str, outcome: str, commitment: str | None) -> int:
    if outcome in ("booked", "rescheduled"):
        return 1 if random.random() < 0.6 else 2 if random.random() < 0.8 else 3
    if outcome == "declined" and commitment is None:
        return 1 + int(random.random() * 2)
    if outcome in ("declined", "unresolved", "message_taken") and intent in (
        "book",
        "reschedule",
        "price",
    ):
        return int(random.random() * 2)
    return 0
