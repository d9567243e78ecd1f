"""What a step proposes and commits, on canvases small enough to follow."""

import pytest
import torch

from inference.diffusion.kernels.naive import head_reduce_classes
from inference.diffusion.structured.assemble import assemble
from inference.diffusion.structured.conditions import CLOSED, UNDECIDED
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.structured.table_store import TableStore


def record(required=None, **properties):
    required = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": required}


class Canvases:
    """A batch with its token buffer, stepped by hand from given log-probabilities."""

    def __init__(self, scaffolds, store=None):
        self.scaffolds = scaffolds
        self.tokenizer = scaffolds[0].tokenizer
        self.vocab = len(self.tokenizer.token_bytes)
        self.store = store or TableStore(self.vocab, "cpu")
        starts, size = [], 3
        for scaffold in scaffolds:
            starts.append(size)
            size += scaffold.num_tokens + 2
        self.starts = starts
        self.batch = ConstraintBatch(scaffolds, starts, size, self.store)
        self.tokens = torch.zeros(size, dtype=torch.int64)
        for start, scaffold in zip(starts, scaffolds, strict=True):
            self.tokens[start : start + scaffold.num_tokens] = torch.tensor(scaffold.tokens)
        self.confidence = torch.ones(size)
        self.state = self.batch.new_state()
        self.logits = torch.zeros((size, self.vocab))

    def place(self, pointer, offset=0, branch=0):
        spans = self.scaffolds[branch].spans
        (span,) = [span for span in spans if span.slot.pointer == pointer]
        return self.starts[branch] + span.start + offset

    def want(self, pointer, text, amount=5.0, branch=0):
        """Let the model lean to `text`, and PAD after it, in the slot of `pointer`."""
        spans = self.scaffolds[branch].spans
        (span,) = [span for span in spans if span.slot.pointer == pointer]
        ids = self.tokenizer.encode(text) if text else []
        ids += [self.tokenizer.pad_token_id] * (span.num_tokens - len(ids))
        for offset, token in enumerate(ids[: span.num_tokens]):
            self.logits[self.place(pointer, offset, branch), token] += amount

    def propose(self, place=None):
        if place is None:
            place = (self.tokens == self.tokenizer.mask_token_id).nonzero()[:, 0]
        rows = self.logits[place.clamp_min(0)]
        head = torch.eye(self.vocab)
        table = self.batch.table_of_place[place.clamp_min(0)]
        reduction = head_reduce_classes(
            rows, head, self.store.token_class, table, self.store.num_classes
        )
        return self.batch.propose(reduction, place, self.tokens, self.state)

    def commit(self, proposal, *places):
        chosen = torch.isin(proposal.place, torch.tensor(places, dtype=torch.int64))
        self.batch.commit(proposal, chosen, self.tokens, self.confidence, self.state)

    def finish(self):
        while (self.tokens == self.tokenizer.mask_token_id).any():
            self.commit(self.propose())
        return [self.value(branch) for branch in range(len(self.scaffolds))]

    def value(self, branch=0):
        return self.record(branch).value

    def record(self, branch=0):
        scaffold, start = self.scaffolds[branch], self.starts[branch]
        canvas = slice(start, start + scaffold.num_tokens)
        return assemble(
            scaffold,
            self.tokens[canvas].tolist(),
            self.confidence[canvas].tolist(),
            self.state.distribution[branch].tolist(),
        )

    def is_masked(self, place):
        return bool(self.tokens[place] == self.tokenizer.mask_token_id)


@pytest.fixture
def canvases(tokenizer):
    def build(*schemas, num_turns=5, store=None):
        compiled = [
            compile_scaffold(
                schema, tokenizer, instructions="Do.", name=f"{i}", num_turns=num_turns
            )
            for i, schema in enumerate(schemas)
        ]
        return Canvases(compiled, store)

    return build


def confidence_at(proposal, place):
    return float(proposal.confidence[proposal.place == place])


TEXT = record(a={"type": "string", "maxLength": 20})
MAYBE_TEXT = record(a={"anyOf": [{"type": "string", "maxLength": 20}, {"type": "null"}]})


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


def test_only_turns_of_the_transcript_can_be_cited(canvases):
    turn = {"anyOf": [{"type": "integer", "minimum": 1, "x-evidence": "turn"}, {"type": "null"}]}
    here = canvases(record(t=turn), num_turns=5)
    here.want("/t", "9", 9.0)
    here.want("/t", "4", 1.0)
    assert here.finish() == [{"t": 4}]
    none = canvases(record(t=turn), num_turns=0)
    none.want("/t", "1", 9.0)
    assert none.propose().forced.all(), "null is all that is left"
    assert none.finish() == [{"t": None}]


UNION = record(
    pay={
        "oneOf": [
            record(kind={"const": "card"}, last4={"type": "string", "pattern": "^[0-9]{4}$"}),
            record(kind={"const": "cash"}, paid={"type": "boolean"}),
        ]
    }
)


def test_a_union_waits_for_its_tag_and_closes_the_other_variants(canvases):
    here = canvases(UNION)
    here.want("/pay/kind", "cash", 3.0)
    here.want("/pay/last4", "1234", 20.0)
    proposal = here.propose()
    assert confidence_at(proposal, here.place("/pay/last4")) == 0
    assert confidence_at(proposal, here.place("/pay/paid")) == 0
    here.commit(proposal, here.place("/pay/last4"))
    assert not here.is_masked(here.place("/pay/kind")), "the tag goes first, whatever is chosen"
    assert int(here.tokens[here.place("/pay/last4")]) == here.tokenizer.pad_token_id
    assert here.is_masked(here.place("/pay/paid"))
    assert here.finish()[0]["pay"].keys() == {"kind", "paid"}
    assert "/pay/last4" not in here.record().confidence


def test_gates_close_what_is_inside_them_at_any_depth(canvases):
    inner = record(c={"enum": ["x", "y"]})
    here = canvases(record([], a=record([], b=inner)))
    here.want("/a", "null", 9.0)
    here.commit(here.propose(), here.place("/a"))
    assert here.value() == {}
    assert here.state.choice.tolist() == [[1, CLOSED, CLOSED]]
    there = canvases(record([], a=record([], b=inner)))
    assert there.state.choice.tolist() == [[UNDECIDED] * 3]
    there.want("/a", "{", 9.0)
    there.want("/a/b", "{", 9.0)
    there.want("/a/b/c", "y", 9.0)
    assert there.finish() == [{"a": {"b": {"c": "y"}}}]


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


@pytest.mark.parametrize("nothing", [-1e30, torch.nan])
def test_logits_that_leave_nothing_legal_still_end_in_a_valid_record(canvases, nothing):
    here = canvases(record(n={"type": "integer", "minimum": 0, "maximum": 99999}))
    here.logits[:] = nothing
    here.logits[:, here.tokenizer.encode('"')[0]] = 0.0
    assert here.propose().legal_mass.max() < 1e-6
    (value,) = here.finish()
    assert 0 <= value["n"] <= 99999
