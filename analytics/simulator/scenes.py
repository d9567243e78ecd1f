"""The scenes of a call: short runs of acts that belong together. No wording here, and no order between scenes."""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from analytics.simulator.facts import Facts


class Step(NamedTuple):
    """One act at its place. `when` overrides the time it speaks of; `small` marks the answer to a side question."""

    act: str
    when: str | None = None
    small: bool = False


Block = list[Step]

_NEEDS_VERTICAL: Final = frozenset({"book", "price", "complaint", "emergency"})
_UNASKED: Final = {
    (intent, field): 1.0
    for intent, fields in {
        "question": ("urgency",),
        "price": ("urgency",),
        "reschedule": ("urgency", "timeline", "authority"),
        "cancel": ("urgency", "timeline", "authority"),
        "complaint": ("timeline", "authority"),
        "emergency": ("timeline",),
        "message": ("timeline",),
    }.items()
    for field in fields
}
"""Shares of what the caller says unasked, where the agent's question would make no sense; 0.45 elsewhere."""


def request_act(facts: Facts) -> str:
    """The act by which the caller says why they call."""
    if facts.kind == "wrong_number":
        return "caller.request.wrong_number"
    if facts.intent in _NEEDS_VERTICAL:
        return f"caller.request.{facts.intent}.{facts.vertical}"
    return f"caller.request.{facts.intent}"


def steps_of(*acts: str) -> Block:
    """These acts in a row."""
    return [Step(act) for act in acts]


def request_step(facts: Facts) -> Step:
    """The request, with the time wished for when an appointment is to be moved."""
    wished = None
    if facts.intent == "reschedule":
        if facts.outcome == "rescheduled" and facts.offers == 1:
            wished = facts.appointment.when
        elif facts.offers == 0:
            wished = facts.refused.when
    return Step(request_act(facts), wished)


def greeting(facts: Facts) -> str:
    """The act that opens the call."""
    return "agent.greet_after_hours" if facts.vertical == "after_hours" else "agent.greet"


def opening(facts: Facts, random: Random) -> Block:
    """Greeting to request. The mood stands before or after the request; the name may be volunteered here."""
    steps = steps_of(greeting(facts))
    if random.random() < 0.4:
        steps += steps_of("agent.ask_need")
    mood = steps_of(f"caller.mood.{facts.mood_start}.start") if facts.mood_start else []
    name = steps_of("caller.give_name") if facts.gives_name and random.random() < 0.25 else []
    if random.random() < 0.4:
        steps += steps_of("caller.opener")
        if random.random() < 0.25 and not (mood or name):
            steps += steps_of("agent.ask_need")
    first = random.random() < 0.6
    name_first = random.random() < 0.7
    steps += name if name_first else []
    if mood and first:
        steps += mood
        if random.random() < 0.3:
            steps += steps_of("agent.ack", "agent.ask_need")
    steps.append(request_step(facts))
    if mood and not first:
        steps += mood
    return steps if name_first else steps + name


def tool_scene(facts: Facts, random: Random) -> Block:
    """The agent looks something up: it works, is slow, fails and recovers, or fails; the caller may react."""
    if facts.tool is None:
        return []
    reaction = steps_of(f"caller.{facts.tool_reaction}") if facts.tool_reaction else []
    early = random.random() < 0.3
    steps = steps_of("agent.tool_start")
    if facts.tool == "ok":
        return steps + (steps_of("agent.tool_ok") if random.random() < 0.5 else [])
    if early and facts.tool_reaction == "tool_wait":
        steps += reaction
        reaction = []
    if facts.tool == "slow":
        return [*steps, Step("agent.tool_timeout"), *reaction, Step("agent.tool_ok")]
    if facts.tool == "recovered":
        steps += [Step("agent.tool_failed"), *reaction]
        return (
            steps
            + (steps_of("agent.tool_start") if random.random() < 0.4 else [])
            + steps_of("agent.tool_ok")
        )
    if random.random() < 0.4:
        steps += steps_of("agent.tool_timeout")
        if random.random() < 0.5:
            return [*steps, *reaction, Step("agent.tool_failed")]
    return [*steps, Step("agent.tool_failed"), *reaction]


def money_scene(facts: Facts, random: Random) -> Block:
    """Quote and what the caller says to it. A fit is always judged after the quote."""
    steps: Block = []
    if facts.lead.quoted:
        if facts.intent != "price" and random.random() < 0.65:
            steps += steps_of("caller.ask_price_midway")
        steps += steps_of("agent.quote_price")
    if facts.lead.budget_fit == "unknown" or (facts.lead.budget_fit and random.random() < 0.12):
        steps += steps_of("agent.ask_budget")
    if facts.lead.budget_fit:
        steps += steps_of(f"caller.budget.{facts.lead.budget_fit}")
    return steps


def objection_scene(facts: Facts, random: Random) -> Block:
    """The caller objects, and the agent may answer it."""
    if facts.lead.objection is None:
        return []
    handled = steps_of("agent.handle_objection") if random.random() < 0.8 else []
    return [Step(f"caller.objection.{facts.lead.objection}"), *handled]


def _asked(question: str, answer: str, random: Random) -> Block:
    ack = steps_of("agent.ack") if random.random() < 0.4 else []
    return [*ack, Step(question), Step(answer)]


def details(facts: Facts, random: Random, named: bool) -> tuple[list[Block], list[Step]]:
    """(blocks of question and answer, acts that the caller volunteers unasked)."""
    blocks: list[Block] = []
    volunteered: list[Step] = []
    for field in ("urgency", "timeline", "authority"):
        value = getattr(facts.lead, field)
        if value is None:
            continue
        act = f"caller.{field}.{value}"
        if random.random() < _UNASKED.get((facts.intent, field), 0.45):
            volunteered.append(Step(act))
        else:
            blocks.append(_asked(f"agent.ask_{field}", act, random))
    if facts.gives_name and not named:
        blocks.append(_asked("agent.ask_name", "caller.give_name", random))
    if facts.gives_phone:
        phone = _asked("agent.ask_phone", "caller.give_phone", random)
        if random.random() < 0.12:
            phone[-1:-1] = steps_of("caller.hold_on", "agent.ack")
        if random.random() < 0.45:
            phone += steps_of("agent.read_back", "caller.confirm_yes")
        blocks.append(phone)
    if facts.gives_address:
        blocks.append(_asked("agent.ask_address", "caller.give_address", random))
    return blocks, volunteered


def offers_scene(facts: Facts, random: Random, tool: Block) -> Block:
    """Offering times until one fits (booked, rescheduled) or none does."""
    fits = facts.outcome in ("booked", "rescheduled")
    appointment = facts.appointment.when
    refused = [facts.refused.when, facts.previous.when]
    if facts.intent == "reschedule":
        refused = refused[:1]
    refused = refused[: facts.offers - 1 if fits else facts.offers]
    if fits and not refused and facts.intent != "reschedule" and random.random() < 0.45:
        steps = [Step("agent.ask_day"), Step("caller.ask_for_slot", appointment), *tool]
        if random.random() < 0.5:
            return steps
        return [*steps, Step("agent.offer_slot", appointment), Step("caller.accept_slot")]
    steps = list(tool)
    act = "agent.offer_slot"
    for when in refused:
        steps += [Step(act, when), Step("caller.decline_slot", when)]
        act = "agent.offer_other_slot"
    if fits:
        steps += [Step(act, appointment), Step("caller.accept_slot")]
    return steps


def no_offer_scene(facts: Facts, random: Random, tool: Block) -> Block:
    """The system's answer when no time is offered; where it fails, often after the caller has named a time."""
    if (
        facts.tool == "failed"
        and facts.intent in ("book", "reschedule")
        and tool
        and random.random() < 0.5
    ):
        return [Step("agent.ask_day"), Step("caller.ask_for_slot", facts.refused.when), *tool]
    return tool


def commitment_scene(facts: Facts) -> Block:
    """What the caller says about going ahead."""
    return steps_of(f"caller.commitment.{facts.lead.commitment}") if facts.lead.commitment else []


def ending(facts: Facts, random: Random) -> Block:
    """What follows the close: anything else, a last mood, a goodbye."""
    steps: Block = []
    mood = steps_of(f"caller.mood.{facts.mood_end}.end") if facts.mood_end else []
    if random.random() < 0.45 and facts.kind == "conversation":
        steps += steps_of("agent.anything_else")
        if random.random() < 0.25:
            steps += [Step("caller.followup_question"), Step("agent.answer", small=True)]
            if random.random() < 0.5:
                steps += steps_of("agent.anything_else", "caller.no_more")
        else:
            steps += steps_of("caller.no_more")
    return [*steps, *mood, *(steps_of("agent.goodbye") if random.random() < 0.7 else [])]
