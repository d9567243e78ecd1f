"""Several canvases in one step, rows that are missing, and batches that follow each other."""

import pytest
import torch

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
