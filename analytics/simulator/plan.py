"""Facts → the order of acts: who does what, when. No wording here."""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from analytics.simulator.acts import role_of
from analytics.simulator.facts import Facts


class Step(NamedTuple):
    """One act at its place in the call. `when` overrides the time that the act speaks of; `small` marks a side question."""

    act: str
    when: str | None = None
    small: bool = False


Block = list[Step]

_NEEDS_VERTICAL: Final = frozenset({"book", "price", "complaint", "emergency"})
_REPEATABLE: Final = frozenset(
    {
        "agent.ask_name",
        "agent.ask_phone",
        "agent.ask_address",
        "agent.ask_day",
        "agent.ask_timeline",
        "agent.ask_authority",
        "agent.ask_urgency",
        "agent.offer_slot",
        "agent.quote_price",
        "agent.answer",
    }
)
_CLARIFIABLE: Final = ("caller.give_name", "caller.give_phone", "caller.give_address")
_UNASKED: Final = {
    (intent, field): 1.0
    for intent, fields in {
        "question": ("urgency",),
        "price": ("urgency",),
        "cancel": ("urgency", "timeline", "authority"),
        "message": ("timeline",),
    }.items()
    for field in fields
}
"""Shares of what the caller says unasked, where the agent's question would make no sense; 0.45 elsewhere."""
_NOT_AN_ANCHOR: Final = frozenset(
    {"caller.opener", "caller.mishear", "caller.hold_on", "caller.tool_wait", "caller.backchannel"}
)
_CLOSES: Final = {
    "booked": "agent.close.booked",
    "rescheduled": "agent.close.rescheduled",
    "cancelled": "agent.close.cancelled",
    "message_taken": "agent.close.message",
    "transferred": "agent.close.transferred",
    "answered": "agent.close.answered",
    "declined": "agent.close.declined",
    "unresolved": "agent.close.unresolved",
    "not_applicable": "agent.close.not_applicable",
}


def request_act(facts: Facts) -> str:
    """The act by which the caller says why they call."""
    if facts.kind == "wrong_number":
        return "caller.request.wrong_number"
    if facts.intent in _NEEDS_VERTICAL:
        return f"caller.request.{facts.intent}.{facts.vertical}"
    return f"caller.request.{facts.intent}"


def _steps(*acts: str) -> Block:
    return [Step(act) for act in acts]


def _shuffled(random: Random, blocks: list[Block]) -> list[Block]:
    return [block for _, _, block in sorted((random.random(), i, b) for i, b in enumerate(blocks))]


def _request(facts: Facts) -> Step:
    wished = None
    if facts.intent == "reschedule":
        fits = facts.outcome == "rescheduled" and facts.offers == 1
        wished = facts.appointment.when if fits else facts.refused.when
    return Step(request_act(facts), wished)


def _greeting(facts: Facts) -> str:
    return "agent.greet_after_hours" if facts.vertical == "after_hours" else "agent.greet"


def _opening(facts: Facts, random: Random) -> Block:
    """Greeting to request. The mood stands before or after the request; the name may be volunteered here."""
    steps = _steps(_greeting(facts))
    if random.random() < 0.4:
        steps += _steps("agent.ask_need")
    mood = _steps(f"caller.mood.{facts.mood_start}.start") if facts.mood_start else []
    name = _steps("caller.give_name") if facts.gives_name and random.random() < 0.25 else []
    if random.random() < 0.4:
        steps += _steps("caller.opener")
        if random.random() < 0.25 and not (mood or name):
            steps += _steps("agent.ask_need")
    first = random.random() < 0.6
    name_first = random.random() < 0.7
    steps += name if name_first else []
    if mood and first:
        steps += mood
        if random.random() < 0.3:
            steps += _steps("agent.ack", "agent.ask_need")
    steps.append(_request(facts))
    if mood and not first:
        steps += mood
    return steps if name_first else steps + name


def _tool(facts: Facts, random: Random) -> Block:
    if facts.tool is None:
        return []
    reaction = _steps(f"caller.{facts.tool_reaction}") if facts.tool_reaction else []
    early = random.random() < 0.3
    steps = _steps("agent.tool_start")
    if facts.tool == "ok":
        return steps + (_steps("agent.tool_ok") if random.random() < 0.5 else [])
    if early and facts.tool_reaction == "tool_wait":
        steps += reaction
        reaction = []
    if facts.tool == "slow":
        return [*steps, Step("agent.tool_timeout"), *reaction, Step("agent.tool_ok")]
    if facts.tool == "recovered":
        steps += [Step("agent.tool_failed"), *reaction]
        return (
            steps
            + (_steps("agent.tool_start") if random.random() < 0.4 else [])
            + _steps("agent.tool_ok")
        )
    if random.random() < 0.4:
        steps += _steps("agent.tool_timeout")
        if random.random() < 0.5:
            return [*steps, *reaction, Step("agent.tool_failed")]
    return [*steps, Step("agent.tool_failed"), *reaction]


def _money(facts: Facts, random: Random) -> Block:
    """Quote and what the caller says to it. A fit is always judged after the quote."""
    steps: Block = []
    if facts.quoted:
        if facts.intent != "price" and random.random() < 0.65:
            steps += _steps("caller.ask_price_midway")
        steps += _steps("agent.quote_price")
    if facts.budget_fit == "unknown" or (facts.budget_fit and random.random() < 0.12):
        steps += _steps("agent.ask_budget")
    if facts.budget_fit:
        steps += _steps(f"caller.budget.{facts.budget_fit}")
    return steps


def _objection(facts: Facts, random: Random) -> Block:
    if facts.objection is None:
        return []
    handled = _steps("agent.handle_objection") if random.random() < 0.8 else []
    return [Step(f"caller.objection.{facts.objection}"), *handled]


def _asked(question: str, answer: str, random: Random) -> Block:
    ack = _steps("agent.ack") if random.random() < 0.4 else []
    return [*ack, Step(question), Step(answer)]


def _details(facts: Facts, random: Random, named: bool) -> tuple[list[Block], list[Step]]:
    """(blocks of question and answer, acts that the caller volunteers unasked)."""
    blocks: list[Block] = []
    volunteered: list[Step] = []
    for field in ("urgency", "timeline", "authority"):
        value = getattr(facts, field)
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
            phone[-1:-1] = _steps("caller.hold_on", "agent.ack")
        if random.random() < 0.45:
            phone += _steps("agent.read_back", "caller.confirm_yes")
        blocks.append(phone)
    if facts.gives_address:
        blocks.append(_asked("agent.ask_address", "caller.give_address", random))
    return blocks, volunteered


def _offers(facts: Facts, random: Random, tool: Block) -> Block:
    """Offering times until one fits (booked, rescheduled) or none does."""
    fits = facts.outcome in ("booked", "rescheduled")
    appointment = facts.appointment.when
    refused = [facts.refused.when, facts.previous.when]
    if facts.intent == "reschedule":
        refused = refused[:1]
    refused = refused[: facts.offers - 1 if fits else facts.offers]
    if fits and not refused and random.random() < 0.45:
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


def _no_offer(facts: Facts, random: Random, tool: Block) -> Block:
    """The system's answer when no time is offered; where it fails, often after the caller has named a time."""
    if (
        facts.tool == "failed"
        and facts.intent in ("book", "reschedule")
        and tool
        and random.random() < 0.5
    ):
        return [Step("agent.ask_day"), Step("caller.ask_for_slot", facts.refused.when), *tool]
    return tool


def _commitment(facts: Facts) -> Block:
    return _steps(f"caller.commitment.{facts.commitment}") if facts.commitment else []


def _body(facts: Facts, random: Random, named: bool) -> tuple[Block, list[Step]]:
    """Everything between the request and the close."""
    tool = _tool(facts, random)
    blocks, volunteered = _details(facts, random, named)
    first: Block = []
    if facts.intent == "complaint" and random.random() < 0.75:
        first = _steps("agent.apologize")
    elif facts.intent == "emergency" and random.random() < 0.6:
        first = _steps("agent.emergency_advice")
    elif random.random() < 0.35:
        first = _steps("agent.ack")
    if facts.intent == "question" and facts.outcome in ("answered", "booked"):
        first += [*tool, Step("agent.answer")]
        tool = []
    money = _money(facts, random)
    if money and facts.intent == "price" and facts.tool != "failed":
        money = tool + money
        tool = []
    commitment = _commitment(facts)
    deal = money + _objection(facts, random)
    offers = _offers(facts, random, tool) if facts.offers else _no_offer(facts, random, tool)
    if facts.commitment == "committed" and offers and random.random() < 0.4:
        offers = commitment + offers
        commitment = []
    blocks = _shuffled(random, blocks)
    n_before = len(blocks) if random.random() < 0.5 else int(random.random() * (len(blocks) + 1))
    parts = [first]
    if facts.intent == "price" and random.random() < 0.8:
        parts += [deal, *blocks[:n_before], offers]
    elif random.random() < 0.25 and offers and facts.outcome in ("booked", "rescheduled"):
        parts += [*blocks[:n_before], offers, deal]
    else:
        parts += [*blocks[:n_before], deal, offers]
    parts += (
        [*blocks[n_before:], commitment]
        if random.random() < 0.4
        else [commitment, *blocks[n_before:]]
    )
    if facts.outcome in ("declined", "answered"):
        parts = [part for part in parts if part is not commitment] + [commitment]
    return [step for part in parts for step in part], volunteered


def _insert_after_caller(
    steps: Block, random: Random, extra: Block, *, start: int, end: int
) -> None:
    """Puts `extra` after a random caller step in [start, end), where the caller is already speaking."""
    places = [
        i + 1
        for i in range(start, min(end, len(steps)))
        if steps[i].act.startswith("caller") and steps[i].act not in _NOT_AN_ANCHOR
    ]
    if places:
        place = places[int(random.random() * len(places))]
        steps[place:place] = extra


def _end(facts: Facts, random: Random) -> Block:
    steps: Block = []
    mood = _steps(f"caller.mood.{facts.mood_end}.end") if facts.mood_end else []
    if random.random() < 0.45 and facts.kind == "conversation":
        steps += _steps("agent.anything_else")
        if random.random() < 0.25:
            steps += [Step("caller.followup_question"), Step("agent.answer", small=True)]
            if random.random() < 0.5:
                steps += _steps("agent.anything_else", "caller.no_more")
        else:
            steps += _steps("caller.no_more")
    return [*steps, *mood, *(_steps("agent.goodbye") if random.random() < 0.7 else [])]


def _disturb(facts: Facts, steps: Block, random: Random) -> None:
    """Mishearings, interruptions and listening noises, which change nothing that is labelled."""
    if random.random() < 0.12:
        places = [
            i
            for i in range(len(steps) - 1)
            if steps[i].act in _REPEATABLE and steps[i + 1].act.startswith("caller")
        ]
        if places:
            place = places[int(random.random() * len(places))] + 1
            steps[place:place] = [Step("caller.mishear"), steps[place - 1]]
    if random.random() < 0.1:
        places = [i for i, step in enumerate(steps) if step.act.startswith(_CLARIFIABLE)]
        if places:
            place = places[int(random.random() * len(places))] + 1
            steps[place:place] = [Step("agent.clarify"), steps[place - 1]]
    if random.random() < 0.1:
        places = [
            i
            for i in range(3, len(steps))
            if steps[i].act.startswith("caller") and steps[i - 1].act.startswith("agent")
        ]
        if places:
            steps.insert(places[int(random.random() * len(places))], Step("caller.interrupt"))
    if random.random() < 0.35:
        places = [
            i
            for i in range(2, len(steps))
            if steps[i].act.startswith("agent") and steps[i - 1].act.startswith("agent")
        ]
        if places:
            steps.insert(places[int(random.random() * len(places))], Step("caller.backchannel"))


def _conversation(facts: Facts, random: Random) -> Block:
    opening = _opening(facts, random)
    i_request = next(i for i, step in enumerate(opening) if "request" in step.act)
    named = any(step.act == "caller.give_name" for step in opening)
    body, volunteered = _body(facts, random, named)
    steps = opening + body
    start = i_request
    for step in volunteered:
        _insert_after_caller(steps, random, [step], start=start, end=len(steps))
    if facts.mood_mid:
        reply = "agent.apologize" if facts.mood_mid == "negative" else "agent.ack"
        extra = _steps(f"caller.mood.{facts.mood_mid}.mid")
        extra += _steps(reply) if random.random() < 0.5 else []
        _insert_after_caller(steps, random, extra, start=len(opening), end=len(steps))
    if facts.smalltalk:
        extra = _steps("caller.smalltalk") + (
            _steps("agent.smalltalk") if random.random() < 0.7 else []
        )
        _insert_after_caller(steps, random, extra, start=start, end=len(steps))
    if facts.injection:
        extra = _steps("caller.injection") + (_steps("agent.ack") if random.random() < 0.3 else [])
        _insert_after_caller(steps, random, extra, start=start, end=len(steps))
    if facts.outcome == "unresolved" and random.random() < 0.4:
        steps += _steps("agent.apologize")
    steps += _steps(_CLOSES[facts.outcome])
    steps += _end(facts, random)
    _disturb(facts, steps, random)
    return steps


def _voicemail(facts: Facts, random: Random) -> Block:
    steps = _steps(_greeting(facts))
    blocks, volunteered = _details(facts, random, named=False)
    told = [
        step
        for block in blocks
        for step in block
        if step.act.startswith("caller.") and "hold" not in step.act
    ]
    told = [step for step in told if step.act != "caller.confirm_yes"]
    mood = _steps(f"caller.mood.{facts.mood_start}.start") if facts.mood_start else []
    steps += _steps("caller.opener") if random.random() < 0.4 else []
    steps += mood
    rest = [_request(facts), *volunteered]
    steps += told[:1] + rest + told[1:]
    if facts.mood_end:
        steps += _steps(f"caller.mood.{facts.mood_end}.end")
    if random.random() < 0.75:
        steps += _steps("agent.close.message")
        steps += _steps("agent.goodbye") if random.random() < 0.5 else []
    return steps


def _not_business(facts: Facts, random: Random) -> Block:
    """Wrong numbers and people who sell something."""
    steps = _opening(facts, random)
    if random.random() < 0.3:
        steps += _steps("agent.ack")
    if facts.injection:
        steps += _steps("caller.injection")
    if (
        facts.outcome == "message_taken"
        and facts.gives_name
        and not any(step.act == "caller.give_name" for step in steps)
    ):
        steps += _steps("agent.ask_name", "caller.give_name")
    return [*steps, Step(_CLOSES[facts.outcome]), *_end(facts, random)]


def _no_speech(facts: Facts, random: Random) -> Block:
    share = random.random()
    if share < 0.3:
        return []
    if share < 0.65:
        return _steps(_greeting(facts))
    follow = "agent.ask_need" if random.random() < 0.5 else "agent.clarify"
    return _steps(_greeting(facts), follow) + (
        _steps("agent.goodbye") if random.random() < 0.4 else []
    )


def _hang_up(facts: Facts, random: Random) -> Block:
    steps = _steps(_greeting(facts))
    steps += _steps("agent.ask_need") if random.random() < 0.4 else []
    spoken = (
        "caller.opener",
        "caller.backchannel",
        "caller.mishear",
        "caller.hold_on",
        "caller.opener",
    )
    steps += _steps(spoken[int(random.random() * len(spoken))])
    if facts.mood_start and random.random() < 0.4:
        steps += _steps(f"caller.mood.{facts.mood_start}.start")
    if random.random() < 0.5:
        steps += _steps("agent.ask_need" if random.random() < 0.5 else "agent.clarify")
        if random.random() < 0.4:
            steps += _steps("agent.goodbye")
    return steps


_KINDS: Final = {
    "conversation": _conversation,
    "voicemail": _voicemail,
    "wrong_number": _not_business,
    "solicitation": _not_business,
    "no_speech": _no_speech,
    "hang_up": _hang_up,
}


def plan_steps(facts: Facts, random: Random) -> Block:
    """All acts of the call in order."""
    return _KINDS[facts.kind](facts, random)


def group_turns(steps: Block, random: Random) -> list[Block]:
    """Steps → turns: what one speaker does in a row is one turn, split at times as a recogniser splits at a pause."""
    turns: list[Block] = []
    role = ""
    for step in steps:
        same = role_of(step.act) == role and len(turns[-1]) < 5 and random.random() > 0.05
        if same:
            turns[-1].append(step)
        else:
            turns.append([step])
        role = role_of(step.act)
    return turns
