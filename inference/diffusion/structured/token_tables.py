"""Tables of deterministic automata under construction, and what is done to them.

State 0 is dead. Columns are symbols: tokens, or classes of tokens with equal transitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_STATES = 1024
MAX_TABLE_SIZE = 2**19  # states x classes; one slot's share of the constraint's work per position
MAX_RAW_SIZE = 2**25  # the same before states and columns are merged: 256 MiB
DEAD, START = 0, 1


class AutomatonTooLargeError(ValueError):
    """The automaton of a language has more states or transitions than a slot may have."""


class LanguageEmptyError(ValueError):
    """The tokenizer can write no text of the language."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Code points that a text must have."""

    minimum: int
    maximum: int | None

    @property
    def top(self) -> int:
        """The highest count that matters."""
        return self.minimum if self.maximum is None else self.maximum


@dataclass(slots=True, eq=False)
class Table:
    """An automaton: `transitions` `[num_states, num_columns]`, `accepting` `[num_states]`, and the start state."""

    transitions: NDArray[np.int64]
    accepting: NDArray[np.bool_]
    start: int


def merge_columns(table: Table, weights: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Leave one column of those that are equal (in weight too), and none that is dead; the class of every old column.

    Classes number the columns left from 1; 0 is dead.
    """
    columns = table.transitions.T
    keys = columns if weights is None else np.column_stack((columns, weights))
    first, inverse = _unique_rows(keys)
    alive = (columns[first] != DEAD).any(axis=1)
    table.transitions = table.transitions[:, first[alive]]
    return np.where(alive, np.cumsum(alive), 0)[inverse]


def _unique_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row of every kind, and the kind of every row; hashed, as sorting whole rows takes seconds."""
    dice = np.random.default_rng(0)
    weights = dice.integers(0, 2**63, (rows.shape[1],), dtype=np.uint64) * 2 + 1
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in range(rows.shape[1]):
        keys += rows[:, column].astype(np.uint64) * weights[column]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    assert (rows == rows[first[inverse]]).all(), "hash collision"
    return first, inverse


def count(table: Table, weights: NDArray[np.int64], counter: Counter) -> Table:
    """The product of the automaton with a counter of code points that stops at the highest count that matters."""
    top = counter.top
    num_states, num_counts = len(table.accepting), top + 1
    if num_states * num_counts * len(weights) > MAX_RAW_SIZE:
        raise AutomatonTooLargeError(f"{num_states} states times {num_counts} counts")
    counts = np.arange(num_counts)[:, None] + weights[None, :]
    over = (counts > top) & (counter.maximum is not None)
    following = table.transitions[:, None, :] * num_counts + np.minimum(counts, top)[None, :, :]
    following[(table.transitions[:, None, :] == DEAD) | over[None, :, :]] = DEAD
    accepting = table.accepting[:, None] & (np.arange(num_counts) >= counter.minimum)[None, :]
    accepting[DEAD] = False
    return Table(
        following.reshape(-1, len(weights)), accepting.reshape(-1), table.start * num_counts
    )


def with_start(table: Table, allow_empty: bool) -> Table:
    """Add a start state that nothing leads back to, so that the empty text can be allowed or not by itself."""
    transitions = np.vstack((table.transitions, table.transitions[table.start]))
    return Table(transitions, np.append(table.accepting, allow_empty), len(table.accepting))


def reachable(table: Table) -> Table:
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
    return Table(number[table.transitions[order]], table.accepting[order], START)


def minimal(table: Table) -> Table:
    """Merge states with the same future (Moore's algorithm); those without one become the dead state."""
    block = table.accepting.astype(np.int64)
    num_blocks = 1 + int(block.any())
    while True:
        signature = np.column_stack((block, block[table.transitions]))
        first, block = _unique_rows(signature)
        if len(first) == num_blocks:
            break
        num_blocks = len(first)
    if block[START] == block[DEAD]:
        raise LanguageEmptyError("no text leads to the end")
    rest = [number for number in range(num_blocks) if number not in (block[DEAD], block[START])]
    order = np.array([block[DEAD], block[START], *rest])
    number = np.zeros(num_blocks, dtype=np.int64)
    number[order] = np.arange(num_blocks)
    return Table(
        number[block[table.transitions[first[order]]]], table.accepting[first[order]], START
    )
