import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.diffusion.kernels.vocabulary_layout import GRAIN, class_layout, plain_layout


@st.composite
def class_tables(draw):
    """A few tables over a vocabulary of odd size, the classes drawn with very uneven frequencies."""
    vocab, num_tables = draw(st.integers(1, 3 * GRAIN)), draw(st.integers(1, 3))
    num_classes, skew = draw(st.integers(1, 40)), draw(st.floats(0.2, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    places = torch.rand(num_tables, vocab, generator=generator) ** skew
    return (places * num_classes).long(), num_classes


@settings(deadline=None)
@given(class_tables(), st.sampled_from([128, 256, GRAIN]))
def test_cells_hold_every_token_once_with_its_classes(tables, tile):
    token_class, num_classes = tables
    layout = class_layout(token_class, num_classes)
    cells = layout.cells(tile)
    tokens = layout.column_token.long()
    assert sorted(tokens.tolist()) == list(range(token_class.shape[1]))
    assert torch.equal(
        layout.group_class[:, layout.column_group.long()], token_class[:, tokens].int()
    )

    starts, tile_cells = cells.cell_start.tolist(), cells.tile_cells.tolist()
    assert starts[0] == 0
    assert starts[-1] == len(tokens)
    for cell, (start, end) in enumerate(itertools.pairwise(starts)):
        assert start // tile == (end - 1) // tile
        assert tile_cells[start // tile] <= cell < tile_cells[start // tile + 1]
        assert len(layout.column_group[start:end].unique()) == 1
        assert (layout.column_token[start:end].diff() > 0).all()


@settings(deadline=None)
@given(class_tables(), st.sampled_from([128, 256, GRAIN]))
def test_tiles_that_need_no_masks_come_last(tables, tile):
    layout = class_layout(*tables)
    cells = layout.cells(tile)
    order = cells.tile_order.tolist()
    assert sorted(order) == list(range(len(cells.tile_cells) - 1))
    for place, i_tile in enumerate(order):
        columns = layout.column_group[i_tile * tile : (i_tile + 1) * tile]
        is_whole = len(columns) == tile and len(columns.unique()) == 1
        assert is_whole == (place >= cells.num_mixed)


@settings(deadline=None)
@given(class_tables(), st.sampled_from([128, GRAIN]))
def test_every_cell_counts_in_one_entry_of_its_class(tables, tile):
    layout = class_layout(*tables)
    cells = layout.cells(tile)
    cell_group = layout.column_group[cells.cell_start[:-1].long()]
    assert sorted(cells.cell_slot.tolist()) == list(range(len(cell_group)))
    group_of_slot = torch.empty_like(cell_group)
    group_of_slot[cells.cell_slot.long()] = cell_group

    entries = cells.entry_slot.tolist()
    covered = [slot for slot in entries if slot < len(cell_group)]
    spans = list(zip(cells.wide_start.tolist(), cells.wide_end.tolist(), strict=True))
    assert len(covered) + len(spans) == len(entries)
    covered += [slot for start, end in spans for slot in range(start, end)]
    assert sorted(covered) == list(range(len(cell_group)))
    assert all(end - start <= cells.most_slots for start, end in spans)
    for entry, slot in enumerate(entries):
        first = slot if slot < len(cell_group) else spans[slot - len(cell_group)][0]
        group = group_of_slot[first]
        assert torch.equal(cells.entry_class[:, entry], layout.group_class[:, group])
    for start, end in spans:
        assert len(group_of_slot[start:end].unique()) == 1


@settings(deadline=None)
@given(class_tables())
def test_the_tokens_of_a_group_ascend_from_slot_to_slot(tables):
    layout = class_layout(*tables)
    for group in range(layout.num_groups):
        assert (layout.column_token[layout.column_group == group].diff() > 0).all()


def test_small_groups_are_spread_over_the_tiles():
    token_class = torch.zeros(1, 40 * GRAIN, dtype=torch.int64)
    token_class[0, : 20 * 40] = torch.arange(1, 41).repeat_interleave(20)
    cells = class_layout(token_class, 41).cells(GRAIN)
    assert cells.tile_cells.diff().max() <= 2


def test_a_vocabulary_without_classes_is_left_in_place():
    weight = torch.randn(1000, 8)
    layout = plain_layout(1000, weight.device)
    assert layout.order(weight) is weight
    assert layout.cells(256).tile_cells.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("bad", [-1, 5])
def test_classes_beyond_the_number_given_are_refused(bad):
    with pytest.raises(AssertionError):
        class_layout(torch.tensor([[0, bad]]), 5)
