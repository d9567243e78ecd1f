"""The head's reduction by token classes where there is no GPU: `naive.head_reduce_classes`, without its dead class.

The naive form scatters every logit into its class. Here a class of one token is read off, and a class of many is
reduced over a copy of its columns, table by table and few rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.diffusion.kernels.naive import HeadReduction
from inference.diffusion.structured.table_store import TableStore

_ROWS_AT_A_TIME = 256
"""Their logits stay in the cache: 4,632 rows of 3,840 take 190 ms of one core, all at once 290."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The classes of one table: those of a single token side by side, and the tokens of each wider one."""

    single_classes: Tensor
    single_tokens: Tensor
    wide: tuple[tuple[int, Tensor], ...]

    @classmethod
    def of(cls, token_class: Tensor) -> _Layout:
        device = token_class.device
        order = token_class.argsort(stable=True)
        members = order.split(token_class.bincount().tolist())
        live = [(number, tokens) for number, tokens in enumerate(members) if number and len(tokens)]
        singles = [(number, int(tokens)) for number, tokens in live if len(tokens) == 1]
        return cls(
            torch.tensor([number for number, _ in singles], device=device, dtype=torch.int64),
            torch.tensor([token for _, token in singles], device=device, dtype=torch.int64),
            tuple((number, tokens) for number, tokens in live if len(tokens) > 1),
        )


class ClassReduction:
    """Reduces logits by the token classes of a store's tables."""

    def __init__(self, store: TableStore) -> None:
        self._store = store
        self._layouts: list[_Layout] = []

    def __call__(self, hidden: Tensor, weight: Tensor, row_table: Tensor) -> HeadReduction:
        """As `naive.head_reduce_classes` with the store's tables; class 0, which no slot reads, stays empty.

        Args:
            hidden: `[num_rows, d_model]`.
            weight: `[vocab, d_model]`.
            row_table: integer `[num_rows]`, the table that holds for a row.
        """
        for token_class in self._store.token_class[len(self._layouts) :]:
            self._layouts.append(_Layout.of(token_class.long()))
        hidden, columns = hidden.float(), weight.float().T
        shape = (len(hidden), self._store.num_classes)
        score, lse = (hidden.new_full(shape, -torch.inf) for _ in range(2))
        token = torch.full(shape, -1, dtype=torch.int32, device=hidden.device)
        row_lse = hidden.new_empty(len(hidden))
        for rows in row_table.argsort(stable=True).split(_ROWS_AT_A_TIME):
            logits = hidden[rows] @ columns
            row_lse[rows] = logits.logsumexp(1)
            tables, counts = row_table[rows].unique_consecutive(return_counts=True)
            sizes = counts.tolist()
            parts = zip(tables.tolist(), rows.split(sizes), logits.split(sizes), strict=True)
            for table, own, its_logits in parts:
                self._reduce(its_logits, self._layouts[table], own, (score, token, lse))
        return HeadReduction(score, token, lse, row_lse)

    def _reduce(
        self, logits: Tensor, layout: _Layout, rows: Tensor, out: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        """Write the rows of one table."""
        score, token, lse = out
        place = (rows[:, None], layout.single_classes)
        score[place] = lse[place] = logits[:, layout.single_tokens]
        token[place] = layout.single_tokens.int()
        for number, tokens in layout.wide:
            own = logits.index_select(1, tokens)
            best, at = own.max(1)
            score[rows, number] = best
            token[rows, number] = tokens[at].int()
            lse[rows, number] = best + (own - best[:, None]).exp_().sum(1).log()
