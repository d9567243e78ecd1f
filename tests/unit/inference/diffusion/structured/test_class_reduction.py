"""The reduction that CPUs run against the naive one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.structured.class_reduction import ClassReduction
from inference.diffusion.structured.table_store import TableStore


@dataclass(frozen=True, eq=False)
class Table:
    token_class: np.ndarray


def table(*classes: int) -> Table:
    return Table(np.array(classes, dtype=np.int16))


@pytest.mark.parametrize("num_rows", [1, 7, 63, 600])
def test_it_is_the_naive_reduction_without_the_dead_class(num_rows):
    generator = torch.Generator().manual_seed(1)
    store = TableStore(9, "cpu")
    reduce = ClassReduction(store)
    weight = torch.randn(9, 5, generator=generator)
    weight[7] = weight[4]  # equal logits: the lower id is told
    for tables in (
        [table(0, 1, 2, 2, 3, 3, 0, 3, 1), table(0, 0, 0, 0, 1, 0, 2, 0, 3)],
        [table(1, 1, 1, 1, 1, 1, 1, 1, 2)],  # added later, when the others are laid out
    ):
        store.add(tables)
        hidden = torch.randn(num_rows, 5, generator=generator)
        row_table = torch.arange(num_rows) % len(store.token_class)
        found = reduce(hidden, weight, row_table)
        expected = head_reduce_classes(
            hidden, weight, store.token_class, row_table, store.num_classes
        )
        assert torch.equal(found.token[:, 1:], expected.token[:, 1:])
        torch.testing.assert_close(found.score[:, 1:], expected.score[:, 1:])
        torch.testing.assert_close(found.lse[:, 1:], expected.lse[:, 1:])
        torch.testing.assert_close(found.row_lse, expected.row_lse)
        assert (found.token[:, 0] == -1).all()


def test_no_rows_give_no_results():
    store = TableStore(4, "cpu")
    store.add([table(0, 1, 2, 2)])
    none = torch.zeros(0, dtype=torch.int64)
    found = ClassReduction(store)(torch.zeros(0, 3), torch.zeros(4, 3), none)
    assert found.score.shape == (0, store.num_classes)
