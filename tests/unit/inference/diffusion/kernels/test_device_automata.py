"""Slots of random automata under the constrained step in kernels: any size, any length, any weight."""

import numpy as np
import pytest
import torch

from inference.diffusion.kernels.naive import HeadReduction
from inference.diffusion.rules import Quota, Threshold
from inference.diffusion.structured.automata import TokenAutomaton
from inference.diffusion.structured.scaffold import Scaffold, SlotSpan
from inference.diffusion.structured.schema.plan import Slot
from tests.unit.inference.diffusion.kernels.twins import Twins


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
