"""The rules: what was said in a call → its records. The one place where labels are decided.

Labels follow from the acts that were spoken before the recording stopped; a fact that never came up is not labelled.

Outcome: the closing act of the agent, evidence its turn. No closing act: `unresolved` without evidence. Nobody but the
  agent spoke, a wrong number, or a solicitation that was turned away: `not_applicable` without evidence.
Intent: the caller's request, evidence the first turn that states it. Speech without a request: `unknown`; no caller
  speech, or a wrong number: `not_applicable`; both without evidence.
Mood: cues are the mood acts, a complaint (negative) and annoyance at a failing system (negative).
  start = the polarity of an opening cue (a mood act at the start, or the complaint), else neutral.
  end = the polarity of the call's last cue, a matter-of-fact closing being a neutral cue; neutral without any.
  overall = mixed when both positive and negative cues occur, else the one that occurs, else neutral.
  overall_turn = the turn of the last cue that is not neutral, null for neutral.
  The caller said nothing of substance (a greeting, "hold on"): all three `unknown`. No caller speech: `not_applicable`.
Urgency, budget fit, authority, timeline, commitment, objection: what the caller said last about it, evidence that turn.
  An emergency request is urgency `high` unless the caller says something else about urgency.
  Accepting an offered time, or having a wished time booked, is commitment `committed` unless the caller says otherwise.
  "Over budget" is an objection to the price when no other objection is raised.
  Not said: `unknown` without evidence. "I don't know" (timeline, budget): also `unknown` without evidence.
  objection is `none` without evidence when a request was made and nothing objected to.
  All six are `not_applicable` without evidence for no caller speech, a wrong number and a solicitation.
caller_name: as the caller gave it. service: the bare noun phrase of the service when anybody said it, else the problem
  that was named, else what the request names in its own words (lexicon/named_services.txt), else null. appointment: the
  time of a booked or rescheduled call as it was said, without a leading "on". price: the price that the agent quoted.
  All null when they were not said; a wrong number has no service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from analytics.simulator.dialogue import SpokenTurn
from analytics.simulator.facts import Facts
from analytics.simulator.summaries import next_step, summarize

Records = dict[str, dict[str, Any]]

_LEAD_FIELDS: Final = ("urgency", "budget_fit", "authority", "timeline", "commitment", "objection")
_OUTCOMES: Final = {
    "agent.close.booked": "booked",
    "agent.close.rescheduled": "rescheduled",
    "agent.close.cancelled": "cancelled",
    "agent.close.message": "message_taken",
    "agent.close.transferred": "transferred",
    "agent.close.answered": "answered",
    "agent.close.declined": "declined",
    "agent.close.unresolved": "unresolved",
    "agent.close.not_applicable": "not_applicable",
}
_WITHOUT_SUBSTANCE: Final = frozenset(
    {"caller.opener", "caller.backchannel", "caller.mishear", "caller.hold_on", "caller.interrupt"}
)


@dataclass(frozen=True, slots=True)
class Heard:
    """One act and the number of its turn."""

    act: str
    turn: int


def _heard(turns: Sequence[SpokenTurn]) -> list[Heard]:
    return [
        Heard(utterance.act, number)
        for number, turn in enumerate(turns, start=1)
        for utterance in turn.utterances
    ]


def _last(heard: Sequence[Heard], prefix: str) -> Heard | None:
    for item in reversed(heard):
        if item.act.startswith(prefix):
            return item
    return None


def _intent(heard: Sequence[Heard], caller_spoke: bool) -> tuple[str, int | None]:
    if not caller_spoke:
        return "not_applicable", None
    for item in heard:
        if item.act.startswith("caller.request."):
            intent = item.act.split(".")[2]
            if intent == "wrong_number":
                return "not_applicable", None
            return intent, item.turn
    return "unknown", None


def _outcome(heard: Sequence[Heard], intent: str, caller_spoke: bool) -> tuple[str, int | None]:
    close = _last(heard, "agent.close.")
    if not caller_spoke or (intent == "not_applicable"):
        return "not_applicable", None
    if close is None:
        return "unresolved", None
    outcome = _OUTCOMES[close.act]
    return outcome, None if outcome == "not_applicable" else close.turn


def _cue(act: str) -> str | None:
    """The mood an act shows: positive, negative or neutral; None when it shows none."""
    if act.startswith("caller.mood."):
        return act.split(".")[2]
    if act.startswith("caller.request.complaint") or act == "caller.tool_annoyed":
        return "negative"
    return None


def _same_mood(value: str) -> dict[str, Any]:
    return {"overall": value, "overall_turn": None, "start": value, "end": value}


def _sentiment(heard: Sequence[Heard], caller_spoke: bool) -> dict[str, Any]:
    if not caller_spoke:
        return _same_mood("not_applicable")
    cues = [(item, cue) for item in heard if (cue := _cue(item.act)) is not None]
    substance = any(
        item.act.startswith("caller") and item.act not in _WITHOUT_SUBSTANCE for item in heard
    )
    if not substance:
        return _same_mood("unknown")
    start = "neutral"
    for item, cue in cues:
        if item.act.endswith(".start") or item.act.startswith("caller.request"):
            start = cue
            break
    end = cues[-1][1] if cues else "neutral"
    coloured = [(item, cue) for item, cue in cues if cue != "neutral"]
    kinds = {cue for _, cue in coloured}
    overall = "mixed" if len(kinds) == 2 else kinds.pop() if kinds else "neutral"
    turn = coloured[-1][0].turn if coloured else None
    return {"overall": overall, "overall_turn": turn, "start": start, "end": end}


def _stated(heard: Sequence[Heard], field: str) -> tuple[str, int | None]:
    item = _last(heard, f"caller.{field}.")
    if item is None:
        return "unknown", None
    value = item.act.rpartition(".")[2]
    return value, None if value == "unknown" else item.turn


def _urgency(heard: Sequence[Heard]) -> tuple[str, int | None]:
    value, turn = _stated(heard, "urgency")
    emergency = next(
        (item for item in heard if item.act.startswith("caller.request.emergency")), None
    )
    if turn is None and emergency is not None:
        return "high", emergency.turn
    return value, turn


def _commitment(heard: Sequence[Heard], outcome: str) -> tuple[str, int | None]:
    value, turn = _stated(heard, "commitment")
    if turn is not None:
        return value, turn
    accepted = _last(heard, "caller.accept_slot")
    if accepted is None and outcome in ("booked", "rescheduled"):
        accepted = _last(heard, "caller.ask_for_slot")
    return ("committed", accepted.turn) if accepted is not None else ("unknown", None)


def _objection(heard: Sequence[Heard], intent: str) -> tuple[str, int | None]:
    value, turn = _stated(heard, "objection")
    if turn is not None:
        return value, turn
    over = _last(heard, "caller.budget.over")
    if over is not None:
        return "price", over.turn
    return ("unknown" if intent == "unknown" else "none"), None


def _features(
    heard: Sequence[Heard], intent: str, intent_turn: int | None, outcome: str
) -> dict[str, Any]:
    values: dict[str, tuple[str, int | None]]
    if intent in ("not_applicable", "solicitation"):
        values = dict.fromkeys(_LEAD_FIELDS, ("not_applicable", None))
    else:
        values = {
            "urgency": _urgency(heard),
            "budget_fit": _stated(heard, "budget"),
            "authority": _stated(heard, "authority"),
            "timeline": _stated(heard, "timeline"),
            "commitment": _commitment(heard, outcome),
            "objection": _objection(heard, intent),
        }
    record: dict[str, Any] = {"intent": intent, "intent_turn": intent_turn}
    for field, (value, turn) in values.items():
        record[field] = value
        record[f"{field}_turn"] = turn
    return record


def _entities(
    turns: Sequence[SpokenTurn], facts: Facts, intent: str, outcome: str
) -> dict[str, str | None]:
    used: set[str] = set()
    named = False
    in_own_words = None
    quoted = False
    timed = False
    for turn in turns:
        for said in turn.utterances:
            used |= said.slots
            in_own_words = in_own_words or said.named
            named = named or said.act == "caller.give_name"
            quoted = quoted or (turn.role == "agent" and "price" in said.slots)
            timed = timed or said.when == facts.appointment.when
    service = None
    if intent != "not_applicable":
        if used & {"service", "a_service"}:
            service = facts.service.name
        elif "issue" in used and facts.issue is not None:
            service = facts.issue.name
        else:
            service = in_own_words
    return {
        "caller_name": facts.caller if named else None,
        "service": service,
        "appointment": facts.appointment.label
        if timed and outcome in ("booked", "rescheduled")
        else None,
        "price": facts.price if quoted else None,
    }


def _asks_topic(turns: Sequence[SpokenTurn]) -> bool:
    return any(
        said.act == "caller.request.question" and "topic" in said.slots
        for turn in turns
        for said in turn.utterances
    )


def label(turns: Sequence[SpokenTurn], facts: Facts) -> Records:
    """The records of a call as spoken: plain dicts that fit analytics.records."""
    heard = _heard(turns)
    caller_spoke = any(turn.role == "caller" for turn in turns)
    intent, intent_turn = _intent(heard, caller_spoke)
    outcome, outcome_turn = _outcome(heard, intent, caller_spoke)
    entities = _entities(turns, facts, intent, outcome)
    features = _features(heard, intent, intent_turn, outcome)
    summary = summarize(
        intent=intent,
        outcome=outcome,
        closed=outcome_turn is not None,
        caller_spoke=caller_spoke,
        agent_spoke=bool(turns),
        objection=str(features["objection"]),
        topic=facts.topic if _asks_topic(turns) else None,
        entities=entities,
    )
    return {
        "summary": {
            "summary": summary,
            "outcome": outcome,
            "outcome_turn": outcome_turn,
            **entities,
            "next_step": next_step(outcome, outcome_turn is not None),
        },
        "sentiment": _sentiment(heard, caller_spoke),
        "lead_score": features,
    }
