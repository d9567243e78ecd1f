"""What a step proposes and commits in one slot, on canvases small enough to follow."""

import pytest
import torch

from tests.unit.inference.diffusion.structured.canvases import (
    MAYBE_TEXT,
    TEXT,
    confidence_at,
    record,
)


def test_what_the_model_wants_is_what_it_gets_where_that_is_legal(canvases):
    here = canvases(
        record(name={"type": "string", "maxLength": 20}, mood={"enum": ["good", "bad"]})
    )
    here.want("/name", " Anna", 12)
    here.want("/mood", "bad", 12)
    assert here.finish() == [{"name": "Anna", "mood": "bad"}]
    assert min(here.record().confidence.values()) > 0.9


def test_confidence_is_the_share_of_legal_paths(canvases):
    """In a two-token slot of digits, by hand."""
    here = canvases(record(n={"type": "string", "pattern": "^[0-9]{2}$", "x-slot-tokens": 2}))
    digits = [here.tokenizer.encode(str(n))[0] for n in range(10)]
    first = here.place("/n")
    here.logits[:] = -30
    here.logits[first, digits[3]] = here.logits[first + 1, digits[3]] = 2.0
    here.logits[first, digits[4]] = here.logits[first + 1, digits[4]] = 1.0
    quote = here.tokenizer.encode('"')[0]
    here.logits[first, quote] = 5.0
    proposal = here.propose()
    best = 1 / (1 + torch.tensor(-1.0).exp())
    assert confidence_at(proposal, first) == pytest.approx(float(best), abs=1e-3)
    wanted = torch.tensor([2.0, 1.0, 5.0]).softmax(0)
    assert float(proposal.legal_mass[0]) == pytest.approx(float(wanted[:2].sum()), abs=1e-3)
    assert int(proposal.token[0]) == digits[3]


def test_digits_of_two_values_never_mix(canvases):
    """85 and 92 are likely, 95 is what each position alone would take; values are scored whole."""
    here = canvases(record(n={"enum": ["85", "92"]}))
    first = here.place("/n")
    eight, five, nine, two = (here.tokenizer.encode(d)[0] for d in "8592")
    here.logits[first, nine], here.logits[first, eight] = 3.0, 2.9
    here.logits[first + 1, five], here.logits[first + 1, two] = 3.0, 2.8
    (value,) = here.finish()
    assert value == {"n": "85"}


def test_the_odds_of_a_finite_field_are_kept(canvases):
    here = canvases(record(mood={"enum": ["good", "bad", "mixed"]}))
    here.want("/mood", "good", 3.0)
    here.want("/mood", "bad", 2.0)
    here.finish()
    odds = here.record().odds["/mood"]
    assert [entry.value for entry in odds][:2] == ["good", "bad"]
    assert sum(entry.probability for entry in odds) == pytest.approx(1, abs=0.02)
    assert here.record().confidence["/mood"] == pytest.approx(odds[0].probability, abs=1e-6)


def test_a_finite_slot_is_committed_whole(canvases):
    here = canvases(record(x={"enum": ["not applicable at all", "ok"]}))
    here.want("/x", "not applicable at all")
    here.commit(here.propose(), here.place("/x", 2))
    assert here.value() == {"x": "not applicable at all"}


def test_required_text_never_begins_with_pad(canvases):
    here = canvases(TEXT)
    here.want("/a", "", 20)
    proposal = here.propose()
    assert int(proposal.token[0]) != here.tokenizer.pad_token_id
    (value,) = here.finish()
    assert len(value["a"]) >= 1


def test_a_nullable_text_may_be_all_pad_and_then_costs_one_commit(canvases):
    here = canvases(MAYBE_TEXT)
    here.want("/a", "", 20)
    here.commit(here.propose(), here.place("/a"))
    assert here.value() == {"a": None}
    assert here.record().confidence["/a"] > 0.99


def test_a_pad_waits_for_the_text_before_it(canvases):
    here = canvases(TEXT)
    here.want("/a", " The price", 1.5)
    here.want("/a", "", 9.0)
    proposal = here.propose()
    first, third = here.place("/a"), here.place("/a", 3)
    assert int(proposal.token[proposal.place == third]) == here.tokenizer.pad_token_id
    assert confidence_at(proposal, third) <= confidence_at(proposal, first)
    here.commit(proposal, third)
    assert here.is_masked(third), "a PAD that was chosen too early is exchanged"
    assert not here.is_masked(first)


def test_a_position_in_the_middle_can_go_first_and_is_no_pad(canvases):
    here = canvases(TEXT)
    here.want("/a", " book haircut", 6.0)
    second = here.place("/a", 1)
    here.commit(here.propose(), second)
    assert not here.is_masked(second)
    assert here.tokens[second] != here.tokenizer.pad_token_id
    assert here.is_masked(second - 1)
    (value,) = here.finish()
    assert value["a"]


def test_after_a_pad_the_rest_is_pad_at_once(canvases):
    here = canvases(TEXT)
    here.want("/a", " Anna", 9.0)
    length = len(here.tokenizer.encode(" Anna"))
    here.commit(here.propose(), *(here.place("/a", offset) for offset in range(length + 1)))
    assert here.value() == {"a": "Anna"}


def test_forced_tokens_are_committed_unasked(canvases):
    here = canvases(
        record(
            a={"type": "string", "pattern": "^(abc|xbc)$", "x-slot-tokens": 3},
            b={"type": "boolean"},
        )
    )
    proposal = here.propose()
    forced = proposal.place[proposal.forced].tolist()
    assert forced == [here.place("/a", 1), here.place("/a", 2)]
    here.commit(proposal, here.place("/b"))
    assert here.is_masked(here.place("/a"))
    assert not here.is_masked(here.place("/a", 1))
    assert here.confidence[here.place("/a", 1)] == 1


@pytest.mark.parametrize("nothing", [-1e30, torch.nan])
def test_logits_that_leave_nothing_legal_still_end_in_a_valid_record(canvases, nothing):
    here = canvases(record(n={"type": "integer", "minimum": 0, "maximum": 99999}))
    here.logits[:] = nothing
    here.logits[:, here.tokenizer.encode('"')[0]] = 0.0
    assert here.propose().legal_mass.max() < 1e-6
    (value,) = here.finish()
    assert 0 <= value["n"] <= 99999
