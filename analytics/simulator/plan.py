"""Facts → the order of acts: which scenes a call has, and what disturbs them."""

from __future__ import annotations

from random import Random
from typing import Final

from analytics.simulator.acts import role_of
from analytics.simulator.facts import Facts
from analytics.simulator.scenes import (
    Block,
    Step,
    commitment_scene,
    details,
    ending,
    greeting,
    money_scene,
    no_offer_scene,
    objection_scene,
    offers_scene,
    opening,
    request_step,
    steps_of,
    tool_scene,
)

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


def _shuffled(random: Random, blocks: list[Block]) -> list[Block]:
    return [block for _, _, block in sorted((random.random(), i, b) for i, b in enumerate(blocks))]


def _body(facts: Facts, random: Random, named: bool) -> tuple[Block, list[Step]]:
    """Everything between the request and the close."""
    tool = tool_scene(facts, random)
    blocks, volunteered = details(facts, random, named)
    first: Block = []
    if facts.intent == "complaint" and random.random() < 0.75:
        first = steps_of("agent.apologize")
    elif facts.intent == "emergency" and random.random() < 0.6:
        first = steps_of("agent.emergency_advice")
    elif random.random() < 0.35:
        first = steps_of("agent.ack")
    if facts.intent == "question" and facts.outcome in ("answered", "booked"):
        first += [*tool, Step("agent.answer")]
        tool = []
    money = money_scene(facts, random)
    if money and facts.intent == "price" and facts.tool != "failed":
        money = tool + money
        tool = []
    commitment = commitment_scene(facts)
    deal = money + objection_scene(facts, random)
    offers = (
        offers_scene(facts, random, tool) if facts.offers else no_offer_scene(facts, random, tool)
    )
    if facts.lead.commitment == "committed" and offers and random.random() < 0.4:
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


def _disturb(steps: Block, random: Random) -> None:
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
    first = opening(facts, random)
    i_request = next(i for i, step in enumerate(first) if "request" in step.act)
    named = any(step.act == "caller.give_name" for step in first)
    body, volunteered = _body(facts, random, named)
    steps = first + body
    start = i_request
    for step in volunteered:
        _insert_after_caller(steps, random, [step], start=start, end=len(steps))
    if facts.mood_mid:
        reply = "agent.apologize" if facts.mood_mid == "negative" else "agent.ack"
        extra = steps_of(f"caller.mood.{facts.mood_mid}.mid")
        extra += steps_of(reply) if random.random() < 0.5 else []
        _insert_after_caller(steps, random, extra, start=len(first), end=len(steps))
    if facts.smalltalk:
        extra = steps_of("caller.smalltalk") + (
            steps_of("agent.smalltalk") if random.random() < 0.7 else []
        )
        _insert_after_caller(steps, random, extra, start=start, end=len(steps))
    if facts.injection:
        extra = steps_of("caller.injection") + (
            steps_of("agent.ack") if random.random() < 0.3 else []
        )
        _insert_after_caller(steps, random, extra, start=start, end=len(steps))
    if facts.outcome == "unresolved" and random.random() < 0.4:
        steps += steps_of("agent.apologize")
    steps += steps_of(_CLOSES[facts.outcome])
    steps += ending(facts, random)
    steps = [step for step, before in zip(steps, [None, *steps], strict=False) if step != before]
    for _ in range(1 if random.random() < 0.95 else 8):
        _disturb(steps, random)
    return steps


def _voicemail(facts: Facts, random: Random) -> Block:
    steps = steps_of(greeting(facts))
    blocks, volunteered = details(facts, random, named=False)
    told = [
        step
        for block in blocks
        for step in block
        if step.act.startswith("caller.") and "hold" not in step.act
    ]
    told = [step for step in told if step.act != "caller.confirm_yes"]
    mood = steps_of(f"caller.mood.{facts.mood_start}.start") if facts.mood_start else []
    steps += steps_of("caller.opener") if random.random() < 0.4 else []
    steps += mood
    rest = [request_step(facts), *volunteered]
    steps += told[:1] + rest + told[1:]
    if facts.mood_end:
        steps += steps_of(f"caller.mood.{facts.mood_end}.end")
    if random.random() < 0.75:
        steps += steps_of("agent.close.message")
        steps += steps_of("agent.goodbye") if random.random() < 0.5 else []
    return steps


def _not_business(facts: Facts, random: Random) -> Block:
    """Wrong numbers and people who sell something."""
    steps = opening(facts, random)
    if random.random() < 0.3:
        steps += steps_of("agent.ack")
    if facts.injection:
        steps += steps_of("caller.injection")
    if (
        facts.outcome == "message_taken"
        and facts.gives_name
        and not any(step.act == "caller.give_name" for step in steps)
    ):
        steps += steps_of("agent.ask_name", "caller.give_name")
    return [*steps, Step(_CLOSES[facts.outcome]), *ending(facts, random)]


def _no_speech(facts: Facts, random: Random) -> Block:
    share = random.random()
    if share < 0.3:
        return []
    if share < 0.65:
        return steps_of(greeting(facts))
    follow = "agent.ask_need" if random.random() < 0.5 else "agent.clarify"
    return steps_of(greeting(facts), follow) + (
        steps_of("agent.goodbye") if random.random() < 0.4 else []
    )


def _hang_up(facts: Facts, random: Random) -> Block:
    steps = steps_of(greeting(facts))
    steps += steps_of("agent.ask_need") if random.random() < 0.4 else []
    spoken = (
        "caller.opener",
        "caller.backchannel",
        "caller.mishear",
        "caller.hold_on",
        "caller.opener",
    )
    steps += steps_of(spoken[int(random.random() * len(spoken))])
    if facts.mood_start and random.random() < 0.4:
        steps += steps_of(f"caller.mood.{facts.mood_start}.start")
    if random.random() < 0.5:
        steps += steps_of("agent.ask_need" if random.random() < 0.5 else "agent.clarify")
        if random.random() < 0.4:
            steps += steps_of("agent.goodbye")
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
