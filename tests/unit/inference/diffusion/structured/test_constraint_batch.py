"""Several canvases in one step, rows that are missing, and batches that follow each other."""

from dataclasses import fields

import pytest
import torch
from torch.nn.functional import pad

from inference.diffusion.structured.slot_groups import Rows
from tests.unit.inference.diffusion.structured.canvases import (
    MAYBE_TEXT,
    TEXT,
    UNION,
    confidence_at,
    record,
)


def test_no_step_is_empty(canvases):
    here = canvases(TEXT, MAYBE_TEXT)
    here.want("/a", " Anna", 9.0, branch=0)
    before = (here.tokens == here.tokenizer.mask_token_id).sum()
    proposal = here.propose()
    here.commit(proposal)
    for branch in range(2):
        span = here.scaffolds[branch].spans[0]
        places = range(here.place("/a", 0, branch), here.place("/a", span.num_tokens, branch))
        written = [place for place in places if not here.is_masked(place)]
        assert written
        most = max(confidence_at(proposal, place) for place in places)
        assert any(confidence_at(proposal, place) == most for place in written)
    assert (here.tokens == here.tokenizer.mask_token_id).sum() < before


def test_a_canvas_alone_and_in_a_batch_gives_the_same_record(canvases, schemas):
    names = [
        "quality_assurance",
        "union_in_array",
        "format_date_time",
        "text_bounds",
        "number_cents",
    ]
    together = canvases(*(schemas[name] for name in names))
    dice = torch.Generator().manual_seed(3)
    for branch, name in enumerate(names):
        start, length = together.starts[branch], together.scaffolds[branch].num_tokens
        logits = torch.randn((length, together.vocab), generator=dice) * 3
        together.logits[start : start + length] = logits
        alone = canvases(schemas[name])
        alone.logits[alone.starts[0] : alone.starts[0] + length] = logits
        alone.finish()
        if branch == 0:
            first = alone
    together.finish()
    assert together.value(0) == first.value(0)
    for pointer, sure in first.record().confidence.items():
        assert together.record(0).confidence[pointer] == pytest.approx(sure, rel=1e-3)


def test_a_step_looks_at_no_slot_that_is_complete_or_waits(canvases):
    here = canvases(UNION, TEXT)
    proposal = here.propose()
    assert num_slots(proposal) == 2, "the tag and the text; what the tag opens waits"
    waiting = proposal.place == here.place("/pay/last4")
    assert proposal.token[waiting] == here.tokenizer.mask_token_id
    assert proposal.legal_mass[waiting] == 0
    here.want("/pay/kind", "card", 9.0)
    here.want("/a", " Anna", 9.0, branch=1)
    length = len(here.tokenizer.encode(" Anna"))
    text = (here.place("/a", offset, branch=1) for offset in range(length + 1))
    here.commit(here.propose(), here.place("/pay/kind"), *text)
    assert num_slots(here.propose()) == 1, "the digits that the tag has opened"
    here.finish()
    assert num_slots(here.propose()) == 0


def num_slots(proposal):
    return sum(len(part.finite) for part in proposal.parts)


def test_some_slots_of_a_group_do_what_they_do_among_all(canvases, schemas):
    here = canvases(schemas["quality_assurance"], schemas["text_bounds"], UNION)
    dice = torch.Generator().manual_seed(4)
    here.logits = torch.randn(here.logits.shape, generator=dice) * 3
    for _ in range(3):
        proposal = here.propose()
        row_of_place = torch.full((len(here.tokens) + 1,), -1)
        row_of_place[proposal.place] = torch.arange(len(proposal.place))
        rows, tokens = Rows(here.reduction, row_of_place), pad(here.tokens, (0, 1))
        for part in proposal.parts:
            slots = torch.randperm(len(part.finite), generator=dice)[::2]
            some = part.group.only(slots)
            found = some.propose(rows, tokens)
            assert_rows(found, part.proposal, slots)
            chosen = torch.rand(part.proposal.open.shape, generator=dice) < 0.3
            written = some.commit(found, chosen[slots])
            assert_rows(written, part.group.commit(part.proposal, chosen), slots)
        some_rows = torch.rand(len(proposal.place), generator=dice) < 0.2
        here.commit(proposal, *proposal.place[some_rows].tolist())


def assert_rows(found, of_all, slots):
    for field in fields(found):
        torch.testing.assert_close(getattr(found, field.name), getattr(of_all, field.name)[slots])


def test_rows_without_a_place_and_places_without_a_row(canvases):
    here = canvases(TEXT)
    here.want("/a", " Anna books", 5.0)
    places = [here.place("/a", offset) for offset in (0, 2)]
    proposal = here.propose(torch.tensor([-1, places[0], -1, places[1]]))
    assert proposal.confidence[[0, 2]].tolist() == [0, 0]
    assert (proposal.confidence[[1, 3]] > 0).all()
    here.batch.commit(
        proposal, torch.tensor([True, True, True, True]), here.tokens, here.confidence, here.state
    )
    assert not here.is_masked(places[0])
    assert here.is_masked(here.place("/a", 1)), "no logits, no commit"
    assert here.finish()[0]["a"]


def test_a_smaller_batch_goes_on_from_the_state_of_a_larger_one(canvases):
    mood = record(a={"enum": ["x", "y"]}, b={"enum": ["u", "v", "w"]})
    both = canvases(UNION, mood)
    both.want("/a", "y", 9.0, branch=1)
    both.commit(both.propose(), both.place("/a", 0, 1))
    later = canvases(mood, store=both.store)
    later.state = later.batch.new_state(both.state, [1])
    start, length = both.starts[1], both.scaffolds[1].num_tokens
    later.tokens[later.starts[0] : later.starts[0] + length] = both.tokens[start : start + length]
    assert later.finish()[0]["a"] == "y"
    assert [entry.value for entry in later.record().odds["/a"]] == ["y"]
