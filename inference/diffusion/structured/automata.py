"""Token automata: what a slot's language allows, as transitions between states over classes of tokens.

The regex becomes an automaton over bytes (outlines-core), that is run over one representative of all tokens that it
cannot tell apart, reduced to its smallest form, and extended by an absorbing PAD state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from outlines_core import Index
from outlines_core import Vocabulary as OutlinesVocabulary

from inference.diffusion.structured.schema.regex import parse, text_of
from inference.diffusion.structured.token_tables import (
    DEAD,
    MAX_RAW_SIZE,
    MAX_STATES,
    MAX_TABLE_SIZE,
    START,
    AutomatonTooLargeError,
    Counter,
    LanguageEmptyError,
    Table,
    count,
    merge_columns,
    minimal,
    reachable,
    with_start,
)
from inference.diffusion.structured.vocabulary import Vocabulary

MAX_COUNTED_STATES = 256  # states times counts up to which parts of characters are counted too
_END = 0  # the byte that ends every text; no text holds it


@dataclass(frozen=True, slots=True, eq=False)
class TokenAutomaton:
    """A deterministic automaton over token classes. State 0 is dead, 1 the start, the last one absorbs PAD.

    Attributes:
        transitions: `[num_states, num_classes]` int16, the next state; class 0 is dead, the last class is PAD alone.
        accepting: `[num_states]` bool.
        token_class: `[vocab]` int16, the class of every token.
        class_size: `[num_classes]` int32, tokens per class; 0 for the dead class.
        any_token: `[num_classes]` int64, a token of each class.
    """

    transitions: NDArray[np.int16]
    accepting: NDArray[np.bool_]
    token_class: NDArray[np.int16]
    class_size: NDArray[np.int32]
    any_token: NDArray[np.int64]

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


def build_automaton(
    regex: str, vocabulary: Vocabulary, *, allow_empty: bool, counter: Counter | None = None
) -> TokenAutomaton:
    """The automaton of the texts of `regex` (in the syntax of `schema.regex`), PAD after them.

    `allow_empty` alone decides about the empty text. With `counter` the text has that many code points; where the
    product of states and counts would exceed `MAX_COUNTED_STATES`, only tokens of whole characters are used.

    Raises:
        AutomatonTooLargeError: more than `MAX_STATES` states or `MAX_TABLE_SIZE` transitions.
        LanguageEmptyError: no text can be written with the tokenizer.
    """
    byte_table, class_of_byte = _byte_table(regex)
    shapes = vocabulary.shapes(class_of_byte)
    pieces = [vocabulary.token_bytes[token] for token in shapes.representatives]
    table = _run_pieces(byte_table, class_of_byte, pieces)
    if counter is None:
        table, classes = _reduced(table, merge_columns(table), allow_empty)
    else:
        if len(table.accepting) * (counter.top + 1) > MAX_COUNTED_STATES:
            table.transitions[:, ~vocabulary.is_text[shapes.representatives]] = DEAD
        weights = vocabulary.num_code_points[shapes.representatives]
        classes = merge_columns(table, weights)
        _, columns = np.unique(classes[classes > 0], return_index=True)
        table = count(minimal(reachable(table)), weights[classes > 0][columns], counter)
        table, classes = _reduced(table, classes, allow_empty)
    class_of_shape = np.append(classes, DEAD)  # the last one for tokens of no shape
    return _with_pad(table, class_of_shape[shapes.shape_of_token], vocabulary)


def sequence_automaton(
    sequences: Sequence[Sequence[int]], vocabulary: Vocabulary, *, allow_empty: bool
) -> TokenAutomaton:
    """The automaton of the given token sequences, none empty, PAD after them; raises AutomatonTooLargeError."""
    following: list[dict[int, int]] = [{}, {}]
    ends: set[int] = set()
    for sequence in sequences:
        state = START
        for token in sequence:
            if token not in following[state]:
                following[state][token] = len(following)
                following.append({})
            state = following[state][token]
        ends.add(state)
    tokens = np.array(sorted({token for sequence in sequences for token in sequence}))
    if len(following) * len(tokens) > MAX_RAW_SIZE:
        raise AutomatonTooLargeError(f"{len(following)} states")
    transitions = np.zeros((len(following), len(tokens)), dtype=np.int64)
    for state, targets in enumerate(following):
        columns = np.searchsorted(tokens, list(targets))
        transitions[state, columns] = list(targets.values())
    accepting = np.zeros(len(following), dtype=bool)
    accepting[list(ends)] = True
    table = Table(transitions, accepting, START)
    table, classes = _reduced(table, merge_columns(table), allow_empty)
    token_class = np.zeros(len(vocabulary), dtype=np.int64)
    token_class[tokens] = classes
    return _with_pad(table, token_class, vocabulary)


def _reduced(
    table: Table, classes: NDArray[np.int64], allow_empty: bool
) -> tuple[Table, NDArray[np.int64]]:
    """The smallest table of the same language but for the empty text, and the new class of every column."""
    smallest = minimal(reachable(with_start(table, allow_empty)))
    if (smallest.transitions[START] == DEAD).all():
        raise LanguageEmptyError("the tokenizer can write no text of it")
    later = np.concatenate(([DEAD], merge_columns(smallest)))
    return smallest, later[classes]


def _byte_table(regex: str) -> tuple[Table, NDArray[np.int64]]:
    """The smallest automaton over bytes, and the column of every byte: `[256]`, -1 for bytes that occur in no text.

    The regex crate stops at the first alternative that matches, so `a|ab` alone would never give `ab`. Here a byte that
    no text holds ends every match, and no alternative is the beginning of another one.
    """
    every_byte = {bytes([byte]): [byte] for byte in range(256)}
    index = Index(f"(?:{text_of(parse(regex))})\\x00", OutlinesVocabulary(256, every_byte))
    following = index.get_transitions()
    states = np.array(sorted(following))
    transitions = np.zeros((len(states) + 1, 257), dtype=np.int64)
    for number, state in enumerate(states.tolist(), START):
        targets = following[state]
        reached = np.searchsorted(states, list(targets.values())) + START
        transitions[number, list(targets)] = reached
    accepting = transitions[:, _END] != DEAD
    transitions[:, _END] = DEAD
    start = int(np.searchsorted(states, index.get_initial_state())) + START
    table = Table(transitions[:, :256], accepting, start)
    class_of_byte = merge_columns(table)
    table = minimal(reachable(table))
    later = np.concatenate(([DEAD], merge_columns(table)))
    return table, later[class_of_byte] - 1


def _run_pieces(table: Table, class_of_byte: NDArray[np.int64], pieces: list[bytes]) -> Table:
    """Run every piece, byte by byte, from every state: columns are pieces."""
    num_states = len(table.accepting)
    if num_states * len(pieces) > MAX_RAW_SIZE:
        raise AutomatonTooLargeError(f"{num_states} states")
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    columns = class_of_byte[np.frombuffer(b"".join(pieces), dtype=np.uint8)]
    state = np.repeat(np.arange(num_states)[:, None], len(pieces), axis=1)
    for place in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > place)
        state[:, longer] = table.transitions[state[:, longer], columns[starts[longer] + place]]
    return Table(state, table.accepting, table.start)


def _with_pad(
    table: Table, token_class: NDArray[np.int64], vocabulary: Vocabulary
) -> TokenAutomaton:
    """Add the dead class, the class of PAD and the state that absorbs it."""
    num_states, num_live = table.transitions.shape
    if num_states + 1 > MAX_STATES or (num_states + 1) * (num_live + 2) > MAX_TABLE_SIZE:
        raise AutomatonTooLargeError(f"{num_states} states, {num_live} classes")
    transitions = np.zeros((num_states + 1, num_live + 2), dtype=np.int16)
    transitions[:-1, 1:-1] = table.transitions
    transitions[:-1, -1] = np.where(table.accepting, num_states, DEAD)
    transitions[-1, -1] = num_states
    classes = token_class.astype(np.int16)
    classes[vocabulary.tokenizer.pad_token_id] = num_live + 1
    sizes = np.bincount(classes, minlength=num_live + 2).astype(np.int32)
    sizes[DEAD] = 0
    any_token = np.zeros(num_live + 2, dtype=np.int64)
    any_token[classes] = np.arange(len(classes))
    accepting = np.append(table.accepting, True)
    return TokenAutomaton(transitions, accepting, classes, sizes, any_token)
