"""The tables of slots as kernels read them: numbers in one device buffer, shared by all slots of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from inference.diffusion.kernels.slot_records import LINK_BITS, Field
from inference.diffusion.structured.automata import TokenAutomaton
from inference.diffusion.structured.slots import ChoiceTable, SlotTable
from inference.diffusion.structured.token_tables import DEAD

MAX_DENSE_STATES = 64
"""Automata up to this size are swept as matrices: few of their links are missing, and 16 KiB of links fit a program."""


class DeviceTables:
    """Tables one after the other in `data` (int32); what lies there never moves within it."""

    def __init__(self, device: torch.device) -> None:
        self.data = torch.zeros(1, dtype=torch.int32, device=device)
        self._records: dict[SlotTable, NDArray[np.int64]] = {}
        self._groups: dict[SlotTable, int] = {}
        self._pieces: list[NDArray[np.int32]] = []
        self._size = 1

    def add(self, tables: Sequence[SlotTable]) -> None:
        """Append those that are new; if there are any, `data` has a new address."""
        for table in tables:
            if table not in self._records:
                if isinstance(table, ChoiceTable):
                    self._add_choices(table)
                else:
                    self._add_automaton(table)
        if self._pieces:
            new = torch.from_numpy(np.concatenate(self._pieces)).to(self.data.device)
            self.data = torch.cat([self.data, new])
            self._pieces.clear()

    def record(self, table: SlotTable) -> NDArray[np.int64]:
        """A slot's record `[len(Field)]` with what the kernels need to know of its table."""
        return self._records[table].copy()

    def groups(self, table: SlotTable) -> int:
        """Where in `data` lies what the choices of a finite slot's table open."""
        return self._groups[table]

    def _add_automaton(self, table: TokenAutomaton) -> None:
        record = self._records[table] = np.zeros(len(Field), dtype=np.int64)
        num_states, num_classes = table.transitions.shape
        members, source, target = _bundles(table.transitions)
        is_dense = num_states <= MAX_DENSE_STATES
        leaving = _links(source, target, num_states, is_dense=is_dense)
        arriving = _links(target, source, num_states, is_dense=is_dense)
        record[Field.NUM_STATES], record[Field.NUM_CLASSES] = num_states, num_classes
        record[Field.NUM_MEMBERS], record[Field.NUM_BUNDLES] = members.shape
        record[Field.NUM_LEAVING], record[Field.NUM_ARRIVING] = len(leaving), len(arriving)
        record[Field.TRANSITIONS] = self._append(table.transitions)
        record[Field.ACCEPTING] = self._append(table.accepting)
        record[Field.CLASS_SIZES] = self._append(table.class_size)
        record[Field.ANY_TOKENS] = self._append(table.any_token)
        record[Field.MEMBERS] = self._append(members)
        record[Field.LEAVING] = self._append(leaving)
        record[Field.ARRIVING] = self._append(arriving)

    def _add_choices(self, table: ChoiceTable) -> None:
        record = self._records[table] = np.zeros(len(Field), dtype=np.int64)
        record[Field.IS_FINITE] = 1
        record[Field.CHOICE_CLASSES] = self._append(table.choice_class)
        record[Field.CHOICE_TOKENS] = self._append(table.tokens)
        self._groups[table] = self._append(table.groups)

    def _append(self, numbers: NDArray[np.generic]) -> int:
        offset = self._size
        self._pieces.append(numbers.astype(np.int32).ravel())
        self._size += numbers.size
        return offset


def _bundles(
    transitions: NDArray[np.int16],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Classes of each bundle, ascending, `[most, num_bundles]`, -1 beyond the last one; the two states it links."""
    state, class_ = np.nonzero(transitions != DEAD)
    pair = state * len(transitions) + transitions[state, class_]
    members, pairs = _padded(pair, class_)
    return members, pairs // len(transitions), pairs % len(transitions)


def _links(
    end: NDArray[np.int64], other: NDArray[np.int64], num_states: int, *, is_dense: bool
) -> NDArray[np.int64]:
    """Links that end at each state, `[most, num_states]`: bundle, and in the bits above it the other; -1 for none."""
    bundle = np.arange(len(end)) | (other << LINK_BITS)
    if is_dense:
        matrix = np.full((num_states, num_states), -1, dtype=np.int64)
        matrix[other, end] = bundle
        return matrix
    columns, states = _padded(end, bundle)
    links = np.full((len(columns), num_states), -1, dtype=np.int64)
    links[:, states] = columns
    return links


def _padded(
    key: NDArray[np.int64], value: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values of each key in their order, `[most, num_keys]`, -1 beyond the last one; the keys."""
    order = np.argsort(key, kind="stable")
    keys, counts = np.unique(key, return_counts=True)
    place = np.arange(len(key)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = np.full((counts.max(), len(keys)), -1, dtype=np.int64)
    columns[place, np.repeat(np.arange(len(keys)), counts)] = value[order]
    return columns, keys
