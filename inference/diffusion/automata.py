"""Token automata: what a slot's language allows, as transitions between states over classes of tokens.

A byte DFA of the language is run over one representative token per token shape (outlines-core), reduced to its smallest
form, extended by an absorbing PAD state, and its tokens merged to classes with equal transitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from outlines_core import Index
from outlines_core import Vocabulary as OutlinesVocabulary

from inference.diffusion.schema.charsets import Ranges
from inference.diffusion.schema.regex import Regex, char_sets, parse, text_of
from inference.diffusion.vocabulary import Vocabulary

MAX_STATES = 1024
MAX_TABLE_SIZE = 2**19  # states x classes; one slot's share of the constraint's work per position
DEAD, START = 0, 1
_END = b"\0"


class AutomatonTooLargeError(ValueError):
    """The automaton of a language has more states or transitions than a slot may have."""


class LanguageEmptyError(ValueError):
    """The tokenizer can write no text of the language."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenAutomaton:
    """A deterministic automaton over token classes. State 0 is dead, 1 the start, the last one absorbs PAD.

    Attributes:
        transitions: `[num_states, num_classes]` int16, the next state; class 0 is dead, the last class is PAD alone.
        accepting: `[num_states]` bool.
        token_class: `[vocab]` int16, the class of every token.
        class_size: `[num_classes]` int32, tokens per class; 0 for the dead class.
    """

    transitions: NDArray[np.int16]
    accepting: NDArray[np.bool_]
    token_class: NDArray[np.int16]
    class_size: NDArray[np.int32]

    def accepts(self, tokens: list[int]) -> bool:
        """Whether `tokens`, PAD included, fill a slot of their number."""
        state = START
        for token in tokens:
            state = int(self.transitions[state, self.token_class[token]])
        return bool(self.accepting[state])

    def can_fill(self, num_tokens: int) -> bool:
        """Whether some text fills exactly `num_tokens` tokens, PAD included."""
        reached = np.zeros(len(self.accepting), dtype=bool)
        reached[START] = True
        for _ in range(num_tokens):
            following = np.unique(self.transitions[reached])
            reached[:] = False
            reached[following] = True
            reached[DEAD] = False
        return bool((reached & self.accepting).any())


@dataclass(frozen=True, slots=True)
class Counter:
    """Code points that a text must have."""

    minimum: int
    maximum: int | None


@dataclass(slots=True, eq=False)
class _Table:
    """An automaton under construction; the columns are classes of tokens, none of them dead."""

    transitions: NDArray[np.int64]
    accepting: NDArray[np.bool_]
    start: int


def build_automaton(
    regex: str, vocabulary: Vocabulary, *, allow_empty: bool, counter: Counter | None = None
) -> TokenAutomaton:
    """The automaton of the texts of `regex` (in the syntax of `schema.regex`), PAD after them.

    With `counter` the text has that many code points, and only tokens of whole characters are used. `allow_empty` alone
    decides about the empty text.

    Raises:
        AutomatonTooLargeError: more than `MAX_STATES` states or `MAX_TABLE_SIZE` transitions.
        LanguageEmptyError: no text can be written with the tokenizer.
    """
    tree = parse(regex)
    shapes = vocabulary.shapes(byte_groups(tree))
    pieces = [vocabulary.token_bytes[token] for token in shapes.representatives]
    kept = [shape for shape, piece in enumerate(pieces) if counter is None or _is_text(piece)]
    table = _run_tokens(text_of(tree), [pieces[shape] for shape in kept])
    num_code_points = np.array([_num_code_points(pieces[shape]) for shape in kept], dtype=np.int64)
    class_of_column = _merge_columns(table, None if counter is None else num_code_points)
    if counter is not None:
        _, columns = np.unique(class_of_column[class_of_column > 0], return_index=True)
        weights = num_code_points[class_of_column > 0][columns]
        table = _count(table, weights, counter)
    table = _minimal(_reachable(_with_start(table, allow_empty)))
    later_class = np.concatenate(([0], _merge_columns(table, None)))
    class_of_shape = np.zeros(len(pieces) + 1, dtype=np.int64)
    class_of_shape[kept] = later_class[class_of_column]
    return _with_pad(
        table, class_of_shape[shapes.shape_of_token], vocabulary.tokenizer.pad_token_id
    )


def byte_groups(tree: Regex) -> NDArray[np.int64]:
    """Bytes that no character set of `tree` tells apart: `[256]` group numbers, -1 for bytes that occur in none."""
    sets = sorted(char_sets(tree))
    groups = np.full(256, -1, dtype=np.int64)
    signatures: dict[tuple[bool, ...], int] = {}
    for byte in range(0x80):
        signature = tuple(any(low <= byte <= high for low, high in ranges) for ranges in sets)
        if any(signature):
            groups[byte] = signatures.setdefault(signature, len(signatures))
    if any(ranges and ranges[-1][1] >= 0x80 for ranges in sets):
        inside = np.zeros(257, dtype=np.int64)
        inside[sorted(_utf8_boundaries(sets))] = 1
        groups[0x80:] = len(signatures) + np.cumsum(inside[0x80:256])
    return groups


def _utf8_boundaries(sets: list[Ranges]) -> set[int]:
    """Bytes where a UTF-8 range of the sets may begin, or another one has just ended."""
    boundaries = {
        0x80,
        0x90,
        0xA0,
        0xC0,
        0xC2,
        0xE0,
        0xE1,
        0xED,
        0xEE,
        0xEF,
        0xF0,
        0xF1,
        0xF4,
        0xF5,
    }
    for ranges in sets:
        for code_point in (end for pair in ranges for end in pair):
            for byte in chr(code_point).encode():
                boundaries |= {byte, byte + 1}
    return boundaries


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def _num_code_points(piece: bytes) -> int:
    return sum(byte & 0xC0 != 0x80 for byte in piece)


def _run_tokens(regex: str, pieces: list[bytes]) -> _Table:
    """Run every piece from every state: columns are pieces.

    The regex crate stops at the first alternative that matches, so `a|ab` alone would never give `ab`. Here a byte that
    no text holds ends every match, and no alternative is the beginning of another one.
    """
    end, out_of_reach = len(pieces), len(pieces) + 1
    ids = {piece: [i] for i, piece in enumerate([*pieces, _END])}
    try:
        index = Index(f"(?:{regex})\\x00", OutlinesVocabulary(out_of_reach, ids))
    except ValueError as error:
        raise LanguageEmptyError(f"the tokenizer can write no text of {regex}") from error
    following = index.get_transitions()
    states = {state: number for number, state in enumerate(following, START)}
    if len(states) >= MAX_STATES:
        raise AutomatonTooLargeError(f"{len(states)} states")
    transitions = np.zeros((len(states) + 1, end + 2), dtype=np.int64)
    for state, targets in following.items():
        columns = np.fromiter(targets.keys(), dtype=np.int64, count=len(targets))
        transitions[states[state], columns] = [states[target] for target in targets.values()]
    accepting = transitions[:, end] != DEAD
    return _Table(transitions[:, :end], accepting, states[index.get_initial_state()])


def _merge_columns(table: _Table, weights: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Leave one column of those that are equal (in weight too), and none that is dead; the class of every old column.

    Classes number the columns left from 1; 0 is dead.
    """
    columns = np.ascontiguousarray(table.transitions.T)
    keys = columns if weights is None else np.column_stack((columns, weights))
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    alive = (columns[first] != DEAD).any(axis=1)
    table.transitions = table.transitions[:, first[alive]]
    return np.where(alive, np.cumsum(alive), 0)[inverse.reshape(-1)]


def _count(table: _Table, weights: NDArray[np.int64], counter: Counter) -> _Table:
    """The product of the automaton with a counter of code points that stops at the highest count that matters."""
    top = counter.minimum if counter.maximum is None else counter.maximum
    num_states, num_counts = len(table.accepting), top + 1
    if num_states * num_counts * len(weights) > 8 * MAX_TABLE_SIZE:
        raise AutomatonTooLargeError(f"{num_states} states times {num_counts} counts")
    counts = np.arange(num_counts)[:, None] + weights[None, :]
    over = (counts > top) & (counter.maximum is not None)
    following = table.transitions[:, None, :] * num_counts + np.minimum(counts, top)[None, :, :]
    following[(table.transitions[:, None, :] == DEAD) | over[None, :, :]] = DEAD
    accepting = table.accepting[:, None] & (np.arange(num_counts) >= counter.minimum)[None, :]
    accepting[DEAD] = False
    return _Table(
        following.reshape(-1, len(weights)), accepting.reshape(-1), table.start * num_counts
    )


def _with_start(table: _Table, allow_empty: bool) -> _Table:
    """Add a start state that nothing leads back to, so that the empty text can be allowed or not by itself."""
    transitions = np.vstack((table.transitions, table.transitions[table.start]))
    return _Table(transitions, np.append(table.accepting, allow_empty), len(table.accepting))


def _reachable(table: _Table) -> _Table:
    """Keep the dead state and what the start leads to, the start as state 1."""
    reached = np.zeros(len(table.accepting), dtype=bool)
    frontier = np.array([table.start])
    while len(frontier):
        reached[frontier] = True
        following = np.unique(table.transitions[frontier])
        frontier = following[~reached[following]]
    reached[[DEAD, table.start]] = False
    order = np.concatenate(([DEAD, table.start], np.flatnonzero(reached)))
    number = np.zeros(len(reached), dtype=np.int64)
    number[order] = np.arange(len(order))
    return _Table(number[table.transitions[order]], table.accepting[order], START)


def _minimal(table: _Table) -> _Table:
    """Merge states with the same future (Moore's algorithm); those without one become the dead state."""
    block = table.accepting.astype(np.int64)
    num_blocks = 1 + int(block.any())
    while True:
        signature = np.column_stack((block, block[table.transitions]))
        _, first, block = np.unique(signature, axis=0, return_index=True, return_inverse=True)
        block = block.reshape(-1)
        if len(first) == num_blocks:
            break
        num_blocks = len(first)
    if block[START] == block[DEAD]:
        raise LanguageEmptyError("no text leads to the end")
    rest = [number for number in range(num_blocks) if number not in (block[DEAD], block[START])]
    order = np.array([block[DEAD], block[START], *rest])
    number = np.zeros(num_blocks, dtype=np.int64)
    number[order] = np.arange(num_blocks)
    return _Table(
        number[block[table.transitions[first[order]]]], table.accepting[first[order]], START
    )


def _with_pad(table: _Table, token_class: NDArray[np.int64], pad_token_id: int) -> TokenAutomaton:
    """Add the dead class, the class of PAD and the state that absorbs it."""
    num_states, num_live = table.transitions.shape
    if num_states + 1 > MAX_STATES or (num_states + 1) * (num_live + 2) > MAX_TABLE_SIZE:
        raise AutomatonTooLargeError(f"{num_states} states, {num_live} classes")
    transitions = np.zeros((num_states + 1, num_live + 2), dtype=np.int16)
    transitions[:-1, 1:-1] = table.transitions
    transitions[:-1, -1] = np.where(table.accepting, num_states, DEAD)
    transitions[-1, -1] = num_states
    classes = token_class.astype(np.int16)
    classes[pad_token_id] = num_live + 1
    sizes = np.bincount(classes, minlength=num_live + 2).astype(np.int32)
    sizes[DEAD] = 0
    return TokenAutomaton(transitions, np.append(table.accepting, True), classes, sizes)
