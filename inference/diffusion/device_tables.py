"""The tables of slots as kernels read them: numbers in one device buffer, shared by all slots of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from inference.diffusion.automata import TokenAutomaton
from inference.diffusion.kernels.slot_records import CLASS_BITS
from inference.diffusion.slots import ChoiceTable, SlotTable
from inference.diffusion.token_tables import DEAD


@dataclass(frozen=True, slots=True)
class TableEntry:
    """Where a table lies in `DeviceTables.data`; see `slot_records.Field`. `groups` is where a finite slot's are."""

    num_states: int
    num_classes: int
    transitions: int
    arrivals: int
    num_arrivals: int
    state_rows: int
    groups: int


class DeviceTables:
    """Tables one after the other in `data` (int32); what lies there never moves within it."""

    def __init__(self, device: torch.device) -> None:
        self.data = torch.zeros(1, dtype=torch.int32, device=device)
        self._entries: dict[SlotTable, TableEntry] = {}
        self._pieces: list[NDArray[np.int32]] = []
        self._size = 1

    def add(self, tables: Sequence[SlotTable]) -> bool:
        """Append those that are new; whether there were any, and `data` has a new address."""
        for table in tables:
            if table not in self._entries:
                self._entries[table] = (
                    self._choices(table)
                    if isinstance(table, ChoiceTable)
                    else self._automaton(table)
                )
        if not self._pieces:
            return False
        new = torch.from_numpy(np.concatenate(self._pieces)).to(self.data.device)
        self.data = torch.cat([self.data, new])
        self._pieces.clear()
        return True

    def entry(self, table: SlotTable) -> TableEntry:
        """Where `table` lies."""
        return self._entries[table]

    def _automaton(self, table: TokenAutomaton) -> TableEntry:
        num_states, num_classes = table.transitions.shape
        arrivals = _arrivals(table.transitions)
        return TableEntry(
            num_states=num_states,
            num_classes=num_classes,
            transitions=self._append(table.transitions),
            arrivals=self._append(arrivals),
            num_arrivals=arrivals.shape[1],
            state_rows=self._append(
                np.concatenate([table.accepting, table.class_size, table.any_token])
            ),
            groups=0,
        )

    def _choices(self, table: ChoiceTable) -> TableEntry:
        return TableEntry(
            num_states=len(table.tokens),
            num_classes=table.num_classes,
            transitions=self._append(table.choice_class),
            arrivals=self._append(table.tokens),
            num_arrivals=0,
            state_rows=0,
            groups=self._append(table.groups),
        )

    def _append(self, numbers: NDArray[np.generic]) -> int:
        offset = self._size
        self._pieces.append(numbers.astype(np.int32).ravel())
        self._size += numbers.size
        return offset


def _arrivals(transitions: NDArray[np.int16]) -> NDArray[np.int64]:
    """The edges that lead to each state, `[num_states, most]`: state << CLASS_BITS | class; -1 beyond the last one."""
    state, class_ = np.nonzero(transitions != DEAD)
    target = transitions[state, class_].astype(np.int64)
    order = np.argsort(target, kind="stable")
    counts = np.bincount(target, minlength=len(transitions))
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    arrivals = np.full((len(transitions), max(1, counts.max())), -1, dtype=np.int64)
    arrivals[target[order], place] = (state[order] << CLASS_BITS) | class_[order]
    return arrivals
