"""What is true of a simulated call before anybody speaks: sampled facts, as independent of each other as sense allows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Final, Generic, Literal, TypeVar

from analytics.simulator.acts import EMERGENCY_VERTICALS, PRICED_VERTICALS, VERTICALS
from analytics.simulator.calendar import Moment, pick_moment, pick_other
from analytics.simulator.entities import (
    Issue,
    Line,
    Service,
    load_names,
    load_shared,
    load_verticals,
)
from analytics.simulator.names import pseudo_first_name, pseudo_last_name

Kind = Literal["conversation", "voicemail", "wrong_number", "solicitation", "no_speech", "hang_up"]
T = TypeVar("T")


class Draw(Generic[T]):
    """A weighted choice prepared once."""

    __slots__ = ("_bounds", "_total", "_values")

    def __init__(self, weights: Mapping[T, float]) -> None:
        self._values = tuple(weights)
        self._bounds = tuple(accumulate(weights.values()))[:-1]
        self._total = sum(weights.values())

    def __call__(self, random: Random) -> T:
        return self._values[bisect_right(self._bounds, random.random() * self._total)]


@dataclass(frozen=True, slots=True)
class Facts:
    """The latent truth of one call. None means that the fact does not come up in the call."""

    kind: Kind
    vertical: str
    intent: str
    outcome: str
    line: str
    business: str
    agent: str
    person: str
    caller: str  # the caller's name, given in the call or not
    gives_name: bool
    gives_phone: bool
    gives_address: bool
    service: Service
    issue: Issue | None
    phone: str
    address: str
    appointment: Moment
    refused: Moment
    previous: Moment
    offers: int  # offers of a time until one fits or the caller gives up; 0 when none is made
    price: str
    budget: str
    quoted: bool
    topic: str
    answer: str
    competitor: str
    urgency: str | None
    timeline: str | None
    authority: str | None
    budget_fit: str | None
    commitment: str | None
    objection: str | None
    mood_start: str | None
    mood_mid: str | None
    mood_end: str | None
    tool: str | None  # ok, slow, recovered, failed
    tool_reaction: str | None  # tool_wait, tool_annoyed
    injection: bool
    smalltalk: bool
    cut: bool  # the recording stops before the call does


_KIND = Draw[Kind](
    {
        "conversation": 86.5,
        "voicemail": 2.5,
        "wrong_number": 3.4,
        "solicitation": 4.2,
        "no_speech": 1.4,
        "hang_up": 2.0,
    }
)
_VERTICAL = Draw(dict.fromkeys(VERTICALS, 1.0))
_INTENT_WEIGHTS: Final = {
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
    weights = dict(_INTENT_WEIGHTS)
    if vertical not in EMERGENCY_VERTICALS:
        del weights["emergency"]
    if vertical not in PRICED_VERTICALS:
        del weights["price"], weights["complaint"]
    return Draw(weights)


_INTENT = {vertical: _intents(vertical) for vertical in VERTICALS}
_OUTCOME = {
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

_LEAD_SHARES: Final[Mapping[str, Mapping[str, float]]] = {
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
_QUOTED_SHARE: Final = {"book": 0.65, "price": 0.9, "question": 0.25, "emergency": 0.12}
_BUDGET_SHARE: Final = 0.85
_NO_QUOTE_BUDGET_SHARE: Final = {"book": 0.15, "price": 0.2, "question": 0.08}

_URGENCY = Draw({"high": 1, "medium": 1.25, "low": 1.25})
_TIMELINE = Draw({"today": 1, "week": 1, "month": 1, "later": 1, "unknown": 0.5})
_LATER = Draw({"later": 1, "unknown": 0.5})
_FITTING_URGENCY: Final = {
    "later": Draw({"low": 1, "medium": 0.3}),
    "month": Draw({"low": 1, "medium": 1}),
    "today": Draw({"high": 1, "medium": 0.5}),
}
_AUTHORITY = Draw({"self": 1, "shared": 1, "other": 1})
_BUDGET = Draw({"fits": 1, "stretch": 1, "over": 0.8, "unknown": 0.4})
_OBJECTION = Draw({"price": 0.8, "timing": 1, "trust": 1, "competitor": 1})
_COMMITMENT = {
    "booked": Draw({"committed": 0.6, None: 0.4}),
    "rescheduled": Draw({"committed": 0.2, None: 0.8}),
    "declined": Draw({"refused": 0.46, "considering": 0.4, None: 0.14}),
    "answered": Draw({"considering": 0.4, "refused": 0.1, None: 0.5}),
    "unresolved": Draw({"committed": 0.3, "considering": 0.15, "refused": 0.1, None: 0.45}),
    "message_taken": Draw({"committed": 0.22, "considering": 0.25, "refused": 0.06, None: 0.47}),
    "transferred": Draw({"committed": 0.22, "considering": 0.25, "refused": 0.06, None: 0.47}),
}
_BUYING: Final = {"book", "price"}
_MOOD_START = Draw({"positive": 0.24, "negative": 0.18, None: 0.58})
_MOOD_MID = Draw({"positive": 0.13, "negative": 0.1, None: 0.77})
_MOOD_END = Draw({"positive": 0.32, "negative": 0.2, "neutral": 0.28, None: 0.2})
_TOOL = Draw({None: 0.55, "ok": 0.2, "slow": 0.14, "recovered": 0.11})
_TOOL_REACTION = Draw({"tool_wait": 0.3, "tool_annoyed": 0.2, None: 0.5})
_DISTANCE: Final = {
    None: Draw({"today": 0.12, "week": 0.5, "month": 0.25, "later": 0.13}),
    "today": Draw({"today": 1}),
    "week": Draw({"week": 0.85, "today": 0.15}),
    "month": Draw({"month": 0.8, "week": 0.2}),
    "later": Draw({"later": 1}),
    "unknown": Draw({"week": 0.4, "month": 0.35, "later": 0.25}),
}
_URGENT_DISTANCE = Draw({"today": 0.7, "week": 0.3})
_PSEUDO_SHARE: Final = 0.35
_NAME_SHARE: Final = {"question": 0.45, "price": 0.5, "solicitation": 0.4, "not_applicable": 0.15}


def pick(random: Random, items: tuple[T, ...]) -> T:
    """One of the items. Several times faster than random.choice, which guards against what cannot happen here."""
    return items[int(random.random() * len(items))]


def _caller_name(random: Random, heldout: bool) -> str:
    names = load_names(heldout)
    made_up = not heldout and random.random() < _PSEUDO_SHARE
    first = pseudo_first_name(random) if made_up else pick(random, names.first)
    if random.random() < 0.22:
        return first
    last = pseudo_last_name(random) if made_up else pick(random, names.last)
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
    if outcome not in _COMMITMENT:
        return None
    commitment = _COMMITMENT[outcome](random)
    if intent in _BUYING or outcome in ("booked", "declined") or random.random() < 0.35:
        return commitment
    return None


def _timeline(random: Random, intent: str, share: float) -> str | None:
    if random.random() >= share:
        return None
    if intent == "emergency":
        return "today"
    return _LATER(random) if intent == "cancel" else _TIMELINE(random)


def _money(
    random: Random, kind: Kind, vertical: str, intent: str, outcome: str
) -> tuple[bool, str | None]:
    """(the price is quoted, what the caller says to it). Only a quoted price can fit or not."""
    if kind not in ("conversation", "voicemail"):
        return False, None
    must = intent == "price" and outcome in ("answered", "booked", "declined")
    quoted = must or random.random() < _QUOTED_SHARE.get(intent, 0.0)
    if not quoted or vertical == "after_hours" or kind == "voicemail":
        return False, "unknown" if random.random() < _NO_QUOTE_BUDGET_SHARE.get(
            intent, 0.0
        ) else None
    budget_fit = _BUDGET(random) if random.random() < _BUDGET_SHARE else None
    if budget_fit == "over" and outcome == "booked":
        budget_fit = "stretch" if random.random() < 0.6 else "fits"
    return True, budget_fit


def _urgency(random: Random, intent: str, timeline: str | None, share: float) -> str | None:
    if intent == "emergency":
        return "high" if random.random() < 0.4 else None
    if random.random() >= share:
        return None
    fitting = _FITTING_URGENCY.get(timeline or "")
    return (fitting or _URGENCY)(random)


def sample_facts(random: Random, *, heldout_names: bool) -> Facts:
    """Draws one call's facts. All randomness comes from `random`."""
    kind = _KIND(random)
    vertical_name = _VERTICAL(random)
    vertical = load_verticals()[vertical_name]
    if kind in ("wrong_number", "no_speech"):
        intent = "not_applicable"
    elif kind == "solicitation":
        intent = "solicitation"
    elif kind == "hang_up":
        intent = "unknown"
    else:
        intent = _INTENT[vertical_name](random)
    outcome = _OUTCOME[intent](random)
    has_lead = kind in ("conversation", "voicemail")
    if kind == "voicemail":
        outcome = "message_taken"

    line = _line(random, vertical.lines, intent)
    service, issue = _subject(random, line, intent)
    shares = _LEAD_SHARES[intent] if has_lead else {}
    timeline = _timeline(random, intent, shares.get("timeline", 0.0))
    urgency = _urgency(random, intent, timeline, shares.get("urgency", 0.0)) if has_lead else None
    if urgency == "high" and timeline in ("later", "month"):
        timeline = "week"
    quoted, budget_fit = _money(random, kind, vertical_name, intent, outcome)
    objection = _OBJECTION(random) if random.random() < shares.get("objection", 0.0) else None
    if objection == "price" and not (quoted or intent in _BUYING):
        objection = "timing"
    if intent == "emergency" and objection is not None:
        objection = "timing" if random.random() < 0.5 else "trust"
    distance = (
        _URGENT_DISTANCE if urgency == "high" or intent == "emergency" else _DISTANCE[timeline]
    )
    appointment = pick_moment(random, distance(random))
    refused = pick_other(random, "week", appointment)
    price, budget = _amounts(random, service, budget_fit)
    shared = load_shared()
    topic, answer = pick(random, vertical.questions)
    commitment = _commitment(random, intent, outcome) if has_lead else None
    if budget_fit == "over" and commitment == "committed":
        commitment = "considering"
    if outcome == "declined" and commitment is None and budget_fit != "over":
        objection = objection or "timing"
    tool = _tool(random, intent, outcome) if kind == "conversation" else None
    named = _NAME_SHARE.get(intent, 0.84)
    with_time = outcome in ("booked", "rescheduled")
    return Facts(
        kind=kind,
        vertical=vertical_name,
        intent=intent,
        outcome=outcome,
        line=line.name,
        business=pick(random, line.businesses),
        agent=pick(random, shared.agents),
        person=pick(random, vertical.staff),
        caller=_caller_name(random, heldout_names),
        gives_name=random.random() < named,
        gives_phone=random.random() < (0.75 if outcome == "message_taken" else 0.35) and has_lead,
        gives_address=vertical_name in ("home_services", "after_hours")
        and has_lead
        and random.random() < (0.5 if with_time or outcome == "transferred" else 0.2),
        service=service,
        issue=issue,
        phone=_phone(random),
        address=f"{1 + int(random.random() ** 2 * 2400)} {pick(random, shared.streets)}",
        appointment=appointment,
        refused=refused,
        previous=pick_other(random, "week", appointment, refused),
        offers=0 if tool == "failed" else _offers(random, outcome, commitment),
        price=price,
        budget=budget,
        quoted=quoted,
        topic=topic,
        answer=answer,
        competitor=pick(random, shared.competitors),
        urgency=urgency,
        timeline=timeline,
        authority=_AUTHORITY(random) if random.random() < shares.get("authority", 0.0) else None,
        budget_fit=budget_fit,
        commitment=commitment,
        objection=objection,
        mood_start=None if intent == "complaint" else _MOOD_START(random),
        mood_mid=_MOOD_MID(random) if has_lead else None,
        mood_end=_MOOD_END(random),
        tool=tool,
        tool_reaction=_TOOL_REACTION(random) if tool not in (None, "ok") else None,
        injection=random.random() < 0.05,
        smalltalk=random.random() < 0.12,
        cut=random.random() < 0.06,
    )


def _tool(random: Random, intent: str, outcome: str) -> str | None:
    if outcome == "unresolved":
        return "failed" if random.random() < 0.75 else _TOOL(random)
    if (
        outcome in ("message_taken", "transferred")
        and intent != "message"
        and random.random() < 0.3
    ):
        return "failed"
    return _TOOL(random)


def _offers(random: Random, outcome: str, commitment: str | None) -> int:
    if outcome in ("booked", "rescheduled"):
        return 1 if random.random() < 0.6 else 2 if random.random() < 0.8 else 3
    if outcome == "declined" and commitment is None:
        return 1 + int(random.random() * 2)
    if outcome in ("declined", "unresolved", "message_taken"):
        return int(random.random() * 2)
    return 0
