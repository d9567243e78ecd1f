"""What is true of a simulated call before anybody speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analytics.simulator.calendar import Moment
from analytics.simulator.entities import Issue, Service

Kind = Literal["conversation", "voicemail", "wrong_number", "solicitation", "no_speech", "hang_up"]


@dataclass(frozen=True, slots=True)
class Lead:
    """What the caller lets on about themselves. None: it does not come up; "unknown": they say that they can't tell."""

    urgency: str | None
    timeline: str | None
    authority: str | None
    budget_fit: str | None
    commitment: str | None
    objection: str | None
    quoted: bool  # the agent names a price


NO_LEAD = Lead(None, None, None, None, None, None, quoted=False)


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
    topic: str
    answer: str
    competitor: str
    lead: Lead
    mood_start: str | None
    mood_mid: str | None
    mood_end: str | None
    tool: str | None  # ok, slow, recovered, failed
    tool_reaction: str | None  # tool_wait, tool_annoyed
    injection: bool
    smalltalk: bool
    cut: bool  # the recording stops before the call does
