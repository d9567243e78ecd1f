"""The utterance bank: pattern files read, checked, split by hash and compiled for fast filling."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from analytics.simulator.acts import ACTS, COMMON_SLOTS, REQUIRED_SLOT, role_of

Split = Literal["train", "heldout"]

BANK_DIRECTORY: Final = Path(__file__).parent / "bank"
HELDOUT_PERCENT: Final = 15

_MAY_LACK: Final = frozenset({"caller", "phone", "issue", "service", "a_service"})
_SLOT = re.compile(r"\{([a-z_]+)\}")
_JOINS = frozenset(".,?!")
_SENTENCE_START = re.compile(r"(?:^|[.?!] )$")


class BankError(ValueError):
    """The bank is incomplete or has patterns that cannot be used. The message lists every problem found."""


def hash_order(text: str) -> int:
    """The first 32 bits of sha256(text): decides the split, and the order in which a learning curve adds patterns."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def is_heldout(text: str) -> bool:
    """True for the 15 % of texts (patterns, names) that training never sees. Depends on nothing but the text."""
    return hash_order(text) % 100 < HELDOUT_PERCENT


@dataclass(frozen=True, slots=True)
class Pattern:
    """One compiled pattern: `head`, then each slot's name, whether it starts a sentence, and the text after it."""

    text: str
    head: str
    parts: tuple[tuple[str, bool, str], ...]
    slots: frozenset[str]

    def fill(self, values: Mapping[str, str]) -> str:
        """The utterance with every slot replaced. Raises KeyError for a slot without a value."""
        if not self.parts:
            return self.head
        pieces = [self.head]
        for slot, starts_sentence, tail in self.parts:
            value = values[slot]
            if starts_sentence:
                value = value[0].upper() + value[1:]
            elif slot == "answer" and not value.startswith(("I ", "I'")):
                value = value[0].lower() + value[1:]
            if value[-1] == "." and tail[:1] in _JOINS:
                value = value[:-1]
            pieces.append(value)
            pieces.append(tail)
        return "".join(pieces)


def compile_pattern(text: str) -> Pattern:
    """Splits a pattern into literal text and slots."""
    pieces = _SLOT.split(text)
    parts: list[tuple[str, bool, str]] = []
    before = pieces[0]
    for slot, tail in zip(pieces[1::2], pieces[2::2], strict=True):
        parts.append((slot, bool(_SENTENCE_START.search(before)), tail))
        before = "x" + tail
    return Pattern(text, pieces[0], tuple(parts), frozenset(pieces[1::2]))


@dataclass(frozen=True, slots=True)
class Bank:
    """All patterns by act, each act's patterns in hash order, so that a prefix of `train` is a stable random subset."""

    train: Mapping[str, tuple[Pattern, ...]]
    heldout: Mapping[str, tuple[Pattern, ...]]

    def patterns(
        self, split: Split, patterns_per_act: int | None = None
    ) -> dict[str, tuple[Pattern, ...]]:
        """The patterns of one split.

        `patterns_per_act` keeps so many of each act (train only): the first in hash order, with one among them that
        fits any call.
        """
        if split == "heldout":
            if patterns_per_act is not None:
                raise ValueError(
                    "patterns_per_act limits training patterns; held-out patterns are always all used"
                )
            return dict(self.heldout)
        if patterns_per_act is None:
            return dict(self.train)
        return {
            act: _first(act, patterns, patterns_per_act) for act, patterns in self.train.items()
        }


def fits_any_call(act: str, pattern: Pattern) -> bool:
    """Whether the pattern needs nothing that a call may lack: no name, number, issue or service, unless it must."""
    may_lack = _MAY_LACK - {REQUIRED_SLOT.get(act)}
    if act == "agent.read_back":
        may_lack -= {"phone"}  # it only follows a number
    if act == "caller.request.reschedule":
        may_lack |= {"when"}  # not everybody wishes for a certain time
    return not pattern.slots & may_lack


def _first(act: str, patterns: tuple[Pattern, ...], count: int) -> tuple[Pattern, ...]:
    kept = patterns[:count]
    if any(fits_any_call(act, pattern) for pattern in kept):
        return kept
    fitting = next(pattern for pattern in patterns if fits_any_call(act, pattern))
    return (*kept[:-1], fitting)


def _problems(act: str, texts: Iterable[str]) -> list[str]:
    allowed = ACTS[act] | COMMON_SLOTS
    required = REQUIRED_SLOT.get(act)
    problems = []
    for text in texts:
        slots = _SLOT.findall(text)
        rest = _SLOT.sub("", text)
        if "{" in rest or "}" in rest:
            problems.append(f"{act}: broken braces: {text}")
        if unknown := set(slots) - allowed:
            problems.append(f"{act}: slots {sorted(unknown)} not allowed: {text}")
        if len(set(slots)) != len(slots):
            problems.append(f"{act}: a slot used twice: {text}")
        if required is not None and required not in slots:
            problems.append(f"{act}: without {{{required}}}: {text}")
    return problems


def read_act(path: Path) -> tuple[str, ...]:
    """The patterns of one act file: comment and empty lines dropped, order kept."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def read_bank(directory: Path) -> Bank:
    """Reads, checks and compiles all acts. Raises BankError naming every missing act and every unusable pattern."""
    problems: list[str] = []
    owner: dict[
        tuple[str, str], str
    ] = {}  # (role, pattern) → act: the same words from both sides are no conflict
    train: dict[str, tuple[Pattern, ...]] = {}
    heldout: dict[str, tuple[Pattern, ...]] = {}
    for act in ACTS:
        path = directory / f"{act}.txt"
        if not path.is_file():
            problems.append(f"{act}: no file {path.name}")
            continue
        texts = read_act(path)
        problems += _problems(act, texts)
        for text in texts:
            key = (role_of(act), text)
            if key in owner:
                problems.append(f"{act}: already stands in {owner[key]}: {text}")
            owner[key] = act
        ordered = sorted(set(texts), key=hash_order)
        train[act] = tuple(compile_pattern(text) for text in ordered if not is_heldout(text))
        heldout[act] = tuple(compile_pattern(text) for text in ordered if is_heldout(text))
        for name, patterns in (("training", train[act]), ("held-out", heldout[act])):
            if not any(fits_any_call(act, pattern) for pattern in patterns):
                problems.append(f"{act}: no {name} pattern that fits any call")
    problems += [
        f"{path.name}: no such act"
        for path in sorted(directory.glob("*.txt"))
        if path.stem not in ACTS
    ]
    if problems:
        raise BankError(f"{len(problems)} problems in the bank:\n" + "\n".join(problems))
    return Bank(train, heldout)


@cache
def load_bank() -> Bank:
    """The shipped bank, read once per process."""
    return read_bank(BANK_DIRECTORY)
