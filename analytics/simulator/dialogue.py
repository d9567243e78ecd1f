"""Plan → spoken turns: a pattern for every act, filled with the call's facts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from analytics.simulator.acts import MOOD_SLOTS, SLOTS, role_of
from analytics.simulator.affinity import Patterns
from analytics.simulator.draws import pick
from analytics.simulator.entities import load_mood_words, load_shared
from analytics.simulator.facts import Facts
from analytics.simulator.named_services import named_service
from analytics.simulator.patterns import BankError, Pattern, is_heldout
from analytics.simulator.plan import group_turns, plan_steps
from analytics.simulator.scenes import Block, Step

_SERVICE_SLOTS: Final = frozenset({"service", "a_service"})
_NAMING_SLOTS: Final = _SERVICE_SLOTS | {"issue"}
_NAMING_SHARE: Final = 0.45  # beyond the third of the request patterns that name it anyway
_GIVEN_SLOTS: Final = frozenset({"caller", "phone"})
_PLAIN_PROPERTY: Final = frozenset(
    {"agent.quote_price", "agent.ask_budget", "agent.handle_objection"}
)
_DETAIL_QUESTION: Final = re.compile(r"\b(?:what|which|who|when|where|how|why)\b", re.IGNORECASE)
_KNOWN_SERVICE: Final = ("caller.request.reschedule", "caller.request.cancel")
_MAX_TRIES: Final = 8  # a random pattern fits most of the time; after 8 misses the list is filtered
LOWERED: Final = frozenset(
    {
        "A", "An", "And", "But", "Can", "Could", "Do", "For", "How", "If", "Is", "It", "It's", "Just",
        "Let", "Let's", "Listen", "Look", "My", "No", "Not", "Okay", "Our", "Please", "So", "Sorry",
        "That", "That's", "The", "There", "There's", "This", "To", "We", "We're", "Well", "What",
        "When", "Where", "Yeah", "Yes", "You", "You're",
    }
)  # fmt: skip
"""Words that lose their capital when what they begin runs on from a comma."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One act as spoken. `when`: the time it named; `named`: the service a request named in its own words."""

    act: str
    pattern: str
    text: str
    slots: frozenset[str]
    when: str | None
    named: str | None = None


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """One turn: its speaker, the acts in it, and the text as a good recogniser writes it."""

    role: Literal["agent", "caller"]
    text: str
    utterances: tuple[Utterance, ...]


def _join(texts: list[str]) -> str:
    """Utterances of one turn, one after another; one that ends on a comma runs on into the next."""
    joined = texts[0]
    for text in texts[1:]:
        if joined[-1] == ",":
            word, space, rest = text.partition(" ")
            if word in LOWERED:
                text = word.lower() + space + rest
        elif joined[-1] not in ".?!":
            joined += "."
        joined += " " + text
    return joined if joined[-1] in ".?!-" else joined.rstrip(",") + "."


class _Speaker:
    """Fills patterns for one call and remembers what has been said, so that nobody knows what was never told."""

    __slots__ = (
        "_agent_slots",
        "_agent_values",
        "_caller_slots",
        "_facts",
        "_patterns",
        "_random",
        "_small_answer",
        "_used",
        "_values",
    )

    def __init__(self, facts: Facts, patterns: Patterns, random: Random) -> None:
        self._facts = facts
        self._patterns = patterns
        self._random = random
        self._used: set[str] = set()
        self._values = _values(facts)
        self._small_answer = ""
        self._agent_values = self._values
        slots = SLOTS - _SERVICE_SLOTS
        if facts.issue is None:
            slots -= {"issue"}
        self._caller_slots = slots
        self._agent_slots = slots - _GIVEN_SLOTS
        if facts.vertical == "real_estate":
            service = facts.service
            viewing = {
                "service": f"{service.name} viewing",
                "a_service": f"{service.with_article} viewing",
            }
            self._agent_values = self._values | viewing
            if facts.intent in ("reschedule", "cancel"):
                self._values = self._agent_values

    def say(self, step: Step) -> Utterance:
        """The utterance of one step."""
        act = step.act
        agent = act.startswith("agent")
        values = self._agent_values if agent and act not in _PLAIN_PROPERTY else self._values
        slots = self._agent_slots if agent else self._caller_slots
        request = act.startswith("caller.request")
        if request:
            slots |= _SERVICE_SLOTS
            if step.when is None:
                slots -= {"when"}
        if step.when is not None:
            values = values | {"when": step.when}
        if step.small:
            values = values | {"answer": self._small_answer}
        pattern = self._choose_naming(act, slots) if request else self._choose(act, slots)
        self._learn(act, pattern, request)
        if coloured := pattern.slots & MOOD_SLOTS:
            values = values | self._mood_words(pattern, coloured)
        when = values["when"] if "when" in pattern.slots else None
        named = None
        if request and not pattern.slots & _NAMING_SLOTS:
            named = named_service(act, pattern.text)
        return Utterance(act, pattern.text, pattern.fill(values), pattern.slots, when, named)

    def _choose(self, act: str, slots: frozenset[str]) -> Pattern:
        patterns = self._patterns[act]
        count = len(patterns)
        random = self._random.random
        for _ in range(_MAX_TRIES):
            pattern = patterns[int(random() * count)]
            if pattern.slots <= slots and pattern.text not in self._used:
                self._used.add(pattern.text)
                return pattern
        fitting = tuple(pattern for pattern in patterns if pattern.slots <= slots)
        if not fitting:
            raise BankError(f"{act}: no pattern in this split uses only the slots {sorted(slots)}")
        return pick(self._random, fitting)

    def _choose_naming(self, act: str, slots: frozenset[str]) -> Pattern:
        """A pattern for a request, preferring those that name the service or the issue, if the act has any."""
        pattern = self._choose(act, slots)
        if self._random.random() < _NAMING_SHARE:
            for _ in range(_MAX_TRIES):
                if pattern.slots & _NAMING_SLOTS:
                    break
                pattern = self._choose(act, slots)
        return pattern

    def _mood_words(self, pattern: Pattern, slots: frozenset[str]) -> dict[str, str]:
        """A held-out pattern gets held-out words, so that neither was seen in training."""
        words = load_mood_words(is_heldout(pattern.text))
        return {slot: pick(self._random, words[slot]) for slot in sorted(slots)}

    def _learn(self, act: str, pattern: Pattern, request: bool) -> None:
        if act.startswith("agent"):
            return
        self._agent_slots |= pattern.slots & _GIVEN_SLOTS
        if request:
            if pattern.slots & _NAMING_SLOTS or act in _KNOWN_SERVICE:
                self._caller_slots |= _SERVICE_SLOTS
                self._agent_slots |= _SERVICE_SLOTS
            if act == "caller.request.question" and "topic" not in pattern.slots:
                self._agent_values = self._agent_values | {"answer": self._answer_to(pattern)}
        elif act == "caller.followup_question":
            self._small_answer = self._answer_to(pattern)

    def _answer_to(self, question: Pattern) -> str:
        """An answer that fits any question of its form: the bank's own questions have no answers of their own."""
        asks_detail = _DETAIL_QUESTION.search(question.text)
        shared = load_shared()
        return pick(self._random, shared.detail_answers if asks_detail else shared.answers)


def _values(facts: Facts) -> dict[str, str]:
    return {
        "business": facts.business,
        "agent": facts.agent,
        "person": facts.person,
        "service": facts.service.name,
        "a_service": facts.service.with_article,
        "caller": facts.caller,
        "issue": facts.issue.text if facts.issue else "",
        "day": facts.appointment.day,
        "time": facts.appointment.time,
        "when": facts.appointment.when,
        "other_when": facts.previous.when,
        "other_day": facts.previous.day,
        "price": facts.price,
        "budget": facts.budget,
        "phone": facts.phone,
        "address": facts.address,
        "topic": facts.topic,
        "answer": facts.answer,
        "competitor": facts.competitor,
    }


def _cut(turns: list[Block], random: Random) -> tuple[list[Block], Step | None]:
    """The call up to a random moment, and the step during which it breaks off, if it breaks off within one."""
    if len(turns) < 3:
        return turns, None
    place = 1 + int(random.random() * (len(turns) - 1))
    kept, last = turns[:place], turns[place]
    n_said = int(random.random() * len(last))
    broken = last[n_said] if random.random() < 0.5 else None
    if n_said:
        kept = [*kept, last[:n_said]]
    return kept, broken


def _break_off(turns: list[SpokenTurn], step: Step, speaker: _Speaker, random: Random) -> None:
    """Appends the first one to three words of an utterance that the recording did not catch to its end."""
    words = speaker.say(step).text.split()
    fragment = " ".join(words[: 1 + int(random.random() * 3)]).rstrip(".,?!-") + "-"
    role = role_of(step.act)
    if turns and turns[-1].role == role:
        last = turns[-1]
        turns[-1] = SpokenTurn(last.role, f"{last.text} {fragment}", last.utterances)
    else:
        turns.append(SpokenTurn("agent" if role == "agent" else "caller", fragment, ()))


def speak(facts: Facts, patterns: Patterns, random: Random) -> tuple[SpokenTurn, ...]:
    """The whole dialogue. Raises BankError when an act has no usable pattern."""
    plan = group_turns(plan_steps(facts, random), random)
    broken = None
    if facts.cut:
        plan, broken = _cut(plan, random)
    speaker = _Speaker(facts, patterns, random)
    turns = []
    for block in plan:
        utterances = tuple([speaker.say(step) for step in block])
        role: Literal["agent", "caller"] = "agent" if block[0].act.startswith("agent") else "caller"
        turns.append(SpokenTurn(role, _join([said.text for said in utterances]), utterances))
    if broken is not None:
        _break_off(turns, broken, speaker, random)
    return tuple(turns)
