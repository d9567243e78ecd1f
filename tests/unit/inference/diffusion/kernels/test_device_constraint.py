"""The constrained step in kernels against the plain one: same logits, same tokens, through whole decodes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.diffusion.device.constraint import DeviceConstraint, RuleNotOnDeviceError
from inference.diffusion.kernels.naive import HeadReduction, head_reduce_classes
from inference.diffusion.rules import Doubt, Factor, Joint, Progress, Quota, Threshold
from inference.diffusion.structured.automata import TokenAutomaton
from inference.diffusion.structured.constraint import ConstraintBatch
from inference.diffusion.structured.scaffold import Scaffold, SlotSpan, compile_scaffold
from inference.diffusion.structured.schema.plan import Slot
from inference.diffusion.structured.table_store import TableStore
from inference.diffusion.tokenizer import train_tokenizer

SCHEMAS = json.loads(
    (Path(__file__).parents[5] / "benchmarks" / "structured_schemas.json").read_text("utf-8")
)
CORPUS = [
    "The caller wants to book an appointment for a haircut on Tuesday at 3 pm.",
    "Größe, déjà vu, ключ, 日本語, 🙂🙂 anna.smith@example.com 2026-11-22T10:15:00Z 99.95 -0.25",
    '{"outcome":"booked","outcome_turn":12,"tags":["red","green"],"price":null,"ok":true}',
]
MAX_CANVASES = 5
GAP = 3  # places between canvases that belong to none


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS * 8, vocab_size=500)


@pytest.fixture
def scaffolds(tokenizer):
    def build(*names, num_turns=7):
        return [
            compile_scaffold(
                SCHEMAS[name], tokenizer, instructions="Read.", name=name, num_turns=num_turns
            )
            for name in names
        ]

    return build


class Twins:
    """The same canvases under both constraints, each with its own token buffer."""

    def __init__(self, tokenizer, rule, device, *, num_places=400, dtype=torch.int32):
        self.tokenizer, self.rule, self.device = tokenizer, rule, device
        self.num_places, self.vocab = num_places, len(tokenizer.token_bytes)
        self.dice = torch.Generator().manual_seed(0)
        self.store = TableStore(self.vocab, device)
        self.kernels = DeviceConstraint(
            num_places=num_places,
            max_canvases=MAX_CANVASES,
            store=self.store,
            pad_token_id=tokenizer.pad_token_id,
            mask_token_id=tokenizer.mask_token_id,
            rule=rule,
        )
        self.tokens = torch.zeros(num_places, dtype=dtype, device=device)
        self.confidence = torch.ones(num_places, device=device)
        self.plain_tokens = self.tokens.long().clone()
        self.plain_confidence = self.confidence.clone()
        self.seats, self.batch, self.state = {}, None, None
        self.num_steps = [0] * MAX_CANVASES
        self.distance = 0.0  # of confidences

    def seat(self, **canvases):
        """Seat `s0=(scaffold, start)` and so on; None vacates."""
        before = list(self.seats)
        for name, canvas in canvases.items():
            number = int(name[1:])
            if number in self.seats:
                self.kernels.vacate(number)
                del self.seats[number]
            if canvas is not None:
                scaffold, start = canvas
                self.kernels.seat(number, scaffold, start)
                self.seats[number] = canvas
                self.num_steps[number] = 0
                run = slice(start, start + scaffold.num_tokens)
                for buffer in (self.tokens, self.plain_tokens):
                    buffer[run] = torch.tensor(scaffold.tokens).to(buffer)
        self.kernels.lay_out()
        stays = [
            before.index(n) if n in before and f"s{n}" not in canvases else None for n in self.seats
        ]
        plain = ConstraintBatch(
            [scaffold for scaffold, _ in self.seats.values()],
            [start for _, start in self.seats.values()],
            self.num_places,
            self.store,
        )
        self.state = plain.new_state(self.state, stays)
        self.batch = plain
        assert torch.equal(self.kernels.table_of_place.long(), plain.table_of_place)

    @property
    def is_masked(self):
        return self.plain_tokens == self.tokenizer.mask_token_id

    def step(self, *, sharpness=1.5, share_of_rows=1.0, spoil=None):
        """One step of both, from the same random logits; they must do the same."""
        place = self.is_masked.nonzero()[:, 0]
        rows = torch.rand(len(place), generator=self.dice) < share_of_rows
        rows[0] = True
        place = place[rows.to(place.device)]
        hidden = torch.randn(len(place), 16, generator=self.dice) * sharpness
        if spoil is not None:
            hidden[::3] = spoil
        head = torch.randn(self.vocab, 16, generator=self.dice)
        reduction = head_reduce_classes(
            hidden.to(self.device),
            head.to(self.device),
            self.store.token_class,
            self.batch.table_of_place[place],
            self.store.num_classes,
        )
        row_of_place = torch.full((self.num_places,), -1, dtype=torch.int32, device=self.device)
        row_of_place[place] = torch.arange(len(place), dtype=torch.int32, device=self.device)
        self.kernels.step(reduction, row_of_place, self.tokens, self.confidence)
        proposal = self.batch.propose(reduction, place, self.plain_tokens, self.state)
        found = self.kernels.confidence_of_place[place]
        torch.testing.assert_close(found, proposal.confidence, rtol=2e-4, atol=1e-6)
        self._commit(proposal, self._choose(place, found))
        assert torch.equal(self.tokens.long(), self.plain_tokens)
        torch.testing.assert_close(self.confidence, self.plain_confidence, rtol=2e-4, atol=1e-6)

    def _choose(self, place, confidence):
        """The rule's choice, of the confidences that the kernels found: a last digit may decide who is first."""
        by_place = torch.zeros(self.num_places, device=self.device)
        by_place[place] = confidence
        chosen = torch.zeros(self.num_places, dtype=torch.bool, device=self.device)
        for number, (scaffold, start) in self.seats.items():
            run = slice(start, start + scaffold.num_tokens)
            own = by_place[run][None]
            progress = Progress(
                torch.tensor([self.num_steps[number]], device=self.device),
                self.is_masked[run].sum()[None],
            )
            chosen[run] = self.rule.choose(own, own > 0, progress)[0]
            self.num_steps[number] += bool((own > 0).any())
        return chosen[place]

    def _commit(self, proposal, chosen):
        self.batch.commit(proposal, chosen, self.plain_tokens, self.plain_confidence, self.state)
        for number, (scaffold, start) in self.seats.items():
            run = slice(start, start + scaffold.num_tokens)
            assert self.kernels.num_masked[number] == self.is_masked[run].sum()

    def finish(self, **options):
        """Steps to the end; the values of all canvases."""
        for _ in range(100):
            if not self.is_masked.any():
                break
            self.step(**options)
        assert not self.is_masked.any()
        return {number: self.value(number) for number in self.seats}

    def value(self, number):
        scaffold, start = self.seats[number]
        return scaffold.decode_value(self.tokens[start : start + scaffold.num_tokens].tolist())


def in_a_row(scaffolds, first=2):
    """Seats for scaffolds that lie behind each other."""
    seats = {}
    for number, scaffold in enumerate(scaffolds):
        seats[f"s{number}"] = (scaffold, first)
        first += scaffold.num_tokens + GAP
    return seats


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (Threshold(0.45), ("text_short", "union_tagged", "boolean_optional", "array_of_null")),
        (Quota(3), ("nested_optional_deep", "any_of_enum_or_text", "integer_null", "evidence")),
        (Quota(num_steps=5), ("union_tagged", "evidence", "empty_object")),
        (Factor(1.2), ("nested_optional_deep", "union_null", "integer_null", "text_short")),
        (Joint(0.3), ("union_tagged", "integer_null", "text_short")),
        (Doubt(0.6), ("any_of_enum_or_text", "evidence", "text_short")),
    ],
    ids=str,
)
def test_whole_decodes_are_the_same(tokenizer, scaffolds, device, rule, names):
    twins = Twins(tokenizer, rule, device)
    twins.seat(**in_a_row(scaffolds(*names)))
    twins.finish()


def test_canvases_come_and_go(tokenizer, scaffolds, device):
    twins = Twins(tokenizer, Quota(2), device, dtype=torch.int64)
    union, text, nested = scaffolds("union_tagged", "text_short", "nested_optional_deep")
    twins.seat(s0=(union, 3), s3=(text, 70))
    for _ in range(2):
        twins.step()
    twins.seat(s1=(nested, 150))
    twins.step()
    while twins.kernels.num_masked[3]:
        twins.step()
    first = twins.value(3)
    twins.seat(s3=(union, 60))
    twins.step()
    twins.seat(s0=None, s2=(text, 3))
    values = twins.finish()
    assert set(values) == {1, 2, 3}
    assert len(first["initials"]) <= 7


def test_places_without_a_row_are_left_open(tokenizer, scaffolds, device):
    twins = Twins(tokenizer, Threshold(0.3), device)
    twins.seat(**in_a_row(scaffolds("text_short", "union_tagged")))
    for _ in range(3):
        twins.step(share_of_rows=0.5)
    twins.finish()


@pytest.mark.parametrize("spoil", [torch.nan, 1e30], ids=str)
def test_a_broken_forward_still_gives_valid_records(tokenizer, scaffolds, device, spoil):
    twins = Twins(tokenizer, Quota(4), device)
    twins.seat(**in_a_row(scaffolds("text_short", "union_tagged")))
    twins.finish(spoil=spoil)


def test_quotas_are_spread_over_the_steps_asked_for(tokenizer, scaffolds, device):
    twins = Twins(tokenizer, Quota(num_steps=4), device)
    (text,) = scaffolds("text_one_character")
    masked = [len(text.slot_positions())]
    twins.seat(s0=(text, 0))
    while masked[-1]:
        twins.step()
        masked.append(int(twins.kernels.num_masked[0]))
    assert len(masked) - 1 <= 4


def random_automaton(dice, num_states, num_classes, vocab, specials):
    """Any automaton with PAD last; its start leads somewhere whatever the length."""
    transitions = dice.integers(0, num_states - 1, (num_states, num_classes)).astype(np.int16)
    transitions[dice.random(transitions.shape) < 0.5] = 0
    transitions[:, 1] = dice.integers(1, num_states - 1, num_states)
    accepting = dice.random(num_states) < 0.5
    accepting[-1] = True
    transitions[:, -1] = np.where(accepting, num_states - 1, 0)
    transitions[-1, :-1] = transitions[0] = transitions[:, 0] = 0
    accepting[0] = False
    pad, mask = specials
    token_class = dice.integers(0, num_classes - 1, vocab).astype(np.int16)
    others = np.setdiff1d(np.arange(vocab), specials)
    token_class[others[: num_classes - 2]] = np.arange(1, num_classes - 1)
    token_class[pad], token_class[mask] = num_classes - 1, 0
    sizes = np.bincount(token_class, minlength=num_classes).astype(np.int32)
    sizes[0] = 0
    any_token = np.zeros(num_classes, dtype=np.int64)
    any_token[token_class] = np.arange(vocab)
    return TokenAutomaton(transitions, accepting, token_class, sizes, any_token)


def canvas_of(tables, lengths, tokenizer):
    """A canvas of slots without a schema."""
    spans, start = [], 1
    for number, (table, length) in enumerate(zip(tables, lengths, strict=True)):
        slot = Slot(number, f"/{number}", "", None, None, None)
        spans.append(SlotSpan(slot, start, length, table))
        start += length + 1
    masked = {place for span in spans for place in range(span.start, span.start + span.num_tokens)}
    tokens = tuple(tokenizer.mask_token_id if i in masked else 5 for i in range(start))
    return Scaffold("random", None, tokens, tuple(spans), 0, tokenizer)


def assert_filled(twins, start):
    """The slots of a canvas at `start` hold what their automata accept."""
    (canvas, _) = twins.seats[0]
    for span in canvas.spans:
        first = start + span.start
        assert span.table.accepts(twins.tokens[first : first + span.num_tokens].tolist())


@pytest.mark.parametrize(
    ("num_states", "num_classes", "length"),
    [(4, 3, 3), (5, 33, 5), (16, 31, 7), (17, 70, 4), (64, 256, 2), (67, 16, 3), (300, 9, 2)],
)
def test_automata_of_any_size(tokenizer, device, num_states, num_classes, length):
    dice = np.random.default_rng(num_states)
    specials = tokenizer.pad_token_id, tokenizer.mask_token_id
    table = None
    while table is None or not table.can_fill(length):
        vocab = len(tokenizer.token_bytes)
        table = random_automaton(dice, num_states, num_classes, vocab, specials)
    twins = Twins(tokenizer, Quota(2), device)
    twins.seat(s0=(canvas_of([table], [length], tokenizer), 4))
    while twins.is_masked.any():
        twins.step(sharpness=0.7)
    assert_filled(twins, 4)


def test_slots_of_unequal_length(tokenizer, device):
    dice = np.random.default_rng(2)
    specials = tokenizer.pad_token_id, tokenizer.mask_token_id
    table = random_automaton(dice, 6, 9, len(tokenizer.token_bytes), specials)
    twins = Twins(tokenizer, Quota(80), device)
    twins.seat(s0=(canvas_of([table] * 3, [66, 1, 5], tokenizer), 20))
    while twins.is_masked.any():
        twins.step(sharpness=0.7)
    assert_filled(twins, 20)


def test_improbable_paths_stay_legal(tokenizer, device):
    """The only path left may weigh less than float32 can tell beside the others."""
    table = random_automaton(np.random.default_rng(0), 4, 4, len(tokenizer.token_bytes), (0, 1))
    pad, mask = tokenizer.pad_token_id, tokenizer.mask_token_id
    transitions = np.array([[0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 2, 3], [0, 0, 0, 3]], dtype=np.int16)
    accepting = np.array([False, False, True, True])
    token_class = np.zeros_like(table.token_class)
    token_class[[5, 6, pad]] = 1, 2, 3
    sizes, any_token = np.array([0, 1, 1, 1], dtype=np.int32), np.array([0, 5, 6, pad])
    table = TokenAutomaton(transitions, accepting, token_class, sizes, any_token)
    twins = Twins(tokenizer, Threshold(2.0), device)
    twins.seat(s0=(canvas_of([table], [6], tokenizer), 0))
    for _ in range(6):
        if not twins.is_masked.any():
            break
        place = twins.is_masked.nonzero()[:, 0]
        score = torch.full((len(place), 4), -1e30, device=device)
        score[:, 1] = 0.0
        token = torch.tensor([-1, 5, 6, pad], dtype=torch.int32, device=device).repeat(
            len(place), 1
        )
        rows = torch.full((twins.num_places,), -1, dtype=torch.int32, device=device)
        rows[place] = torch.arange(len(place), dtype=torch.int32, device=device)
        reduction = HeadReduction(score, token, score, torch.zeros(len(place), device=device))
        twins.kernels.step(reduction, rows, twins.tokens, twins.confidence)
        twins.plain_tokens = twins.tokens.long()
    assert table.accepts(twins.tokens[1:7].tolist())
    assert mask not in twins.tokens.tolist()


def test_buffers_stay_while_the_version_does(tokenizer, scaffolds, device):
    twins = Twins(tokenizer, Threshold(), device)
    text, nested = scaffolds("text_short", "nested_optional_deep")
    twins.seat(s0=(text, 0), s1=(text, 100))
    version, key = twins.kernels.version, twins.kernels.graph_key
    address = twins.kernels.table_of_place.data_ptr()
    twins.seat(s1=(text, 50), s0=None)
    twins.seat(s0=(text, 100))
    assert (twins.kernels.version, twins.kernels.graph_key) == (version, key)
    assert twins.kernels.table_of_place.data_ptr() == address
    twins.seat(s2=(nested, 150))
    assert twins.kernels.version > version
    assert twins.kernels.graph_key != key


def test_a_rule_without_a_kernel_is_refused(tokenizer, device):
    with pytest.raises(RuleNotOnDeviceError, match="use Threshold"):
        Twins(tokenizer, object(), device)
