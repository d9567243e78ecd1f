"""Forward-backward and Viterbi against every path of small automata, through random commits to the end."""

import itertools

import pytest
import torch

from inference.diffusion.kernels.naive_slots import best_path, choice_scores, slot_marginals

NUM_SLOTS, NUM_STATES, NUM_CLASSES, NUM_POSITIONS = 96, 6, 4, 5
PATHS = torch.tensor(list(itertools.product(range(NUM_CLASSES), repeat=NUM_POSITIONS)))


@pytest.fixture
def dice():
    return torch.Generator().manual_seed(0)


def random_automata(dice):
    """Transitions, accepting states and valid positions; every slot has a path to its end."""
    while True:
        shape = (4 * NUM_SLOTS, NUM_STATES, NUM_CLASSES)
        transitions = torch.randint(0, NUM_STATES, shape, generator=dice)
        transitions[torch.rand(shape, generator=dice) < 0.4] = 0
        transitions[:, 0] = 0
        accepting = torch.rand(shape[:2], generator=dice) < 0.3
        accepting[:, 0] = False
        length = torch.randint(1, NUM_POSITIONS + 1, (len(transitions), 1), generator=dice)
        valid = torch.arange(NUM_POSITIONS) < length
        usable = accepted_paths(transitions, accepting, valid).any(1)
        if usable.sum() >= NUM_SLOTS:
            kept = usable.nonzero()[:NUM_SLOTS, 0]
            return transitions[kept], accepting[kept], valid[kept]


def accepted_paths(transitions, accepting, valid):
    """Which of `PATHS` lead every slot to its end, beyond which they hold class 0: `[S, paths]`."""
    slots = torch.arange(len(transitions))[:, None]
    state = torch.ones((len(transitions), len(PATHS)), dtype=torch.int64)
    rest_is_zero = torch.ones_like(state, dtype=torch.bool)
    for i in range(NUM_POSITIONS):
        following = transitions[slots, state, PATHS[None, :, i]]
        state = torch.where(valid[:, i, None], following, state)
        rest_is_zero &= valid[:, i, None] | (PATHS[None, :, i] == 0)
    return accepting[slots, state] & rest_is_zero


def path_weights(scores, valid):
    """Weight of every path: `[S, paths]`."""
    weights = torch.zeros((len(scores), len(PATHS)))
    for i in range(NUM_POSITIONS):
        weights += torch.where(valid[:, i, None], scores[:, i][:, PATHS[:, i]], 0)
    return weights


def only(classes):
    """Scores that leave nothing but the given class at each position."""
    own = torch.arange(NUM_CLASSES) == classes[..., None]
    return torch.zeros(own.shape).masked_fill(~own, -torch.inf)


def test_legality_and_best_paths_are_exact_and_no_commit_ends_dead(dice):
    num_steps = 0
    while num_steps < 5000:
        transitions, accepting, valid = random_automata(dice)
        possible = accepted_paths(transitions, accepting, valid)
        committed = torch.zeros((NUM_SLOTS, NUM_POSITIONS), dtype=torch.int64)
        masked = valid.clone()
        while masked.any():
            scores = torch.randn((*masked.shape, NUM_CLASSES), generator=dice) * 3
            seen = torch.where(masked[..., None], scores, only(committed))
            marginals = slot_marginals(seen, transitions, accepting, valid)
            weights = path_weights(seen, valid).masked_fill(~possible, -torch.inf)
            torch.testing.assert_close(marginals.log_total, weights.logsumexp(1))
            for i in range(NUM_POSITIONS):
                for c in range(NUM_CLASSES):
                    through = PATHS[:, i] == c
                    expected = weights[:, through].logsumexp(1)
                    found = marginals.transfer[:, i, c] + seen[:, i, c]
                    here = valid[:, i]
                    torch.testing.assert_close(found[here], expected[here])
                    assert (found[here].isinf() == expected[here].isinf()).all()
            chosen = masked & (torch.rand(masked.shape, generator=dice) < 0.4)
            some = (torch.arange(NUM_POSITIONS) == masked.int().argmax(1, keepdim=True)) & masked
            chosen |= some & ~chosen.any(1, keepdim=True)
            asked = torch.where(chosen[..., None], scores, 0)
            asked = torch.where(masked[..., None], asked, only(committed))
            path = best_path(asked, transitions, accepting, valid)
            index = (path * NUM_CLASSES ** torch.arange(NUM_POSITIONS - 1, -1, -1)).sum(1)
            reachable = path_weights(asked, valid).masked_fill(~possible, -torch.inf)
            slots = torch.arange(NUM_SLOTS)
            assert possible[slots, index].all(), "a path that is not accepted"
            torch.testing.assert_close(reachable[slots, index], reachable.amax(1))
            committed = torch.where(chosen, path, committed)
            masked &= ~chosen
            num_steps += int((masked | chosen).any(1).sum())
            still = path_weights(torch.where(masked[..., None], 0.0, only(committed)), valid)
            assert (possible & still.isfinite()).any(1).all(), "a dead end"


def test_improbable_paths_stay_legal():
    """A path may be the only one left though all others together outweigh it by more than float32 can tell."""
    transitions = torch.tensor([[[0, 0], [1, 2], [0, 2]]])
    accepting = torch.tensor([[False, True, True]])
    scores = torch.tensor([[[0.0, -1e4], [0.0, -1e4], [0.0, -1e4]]])
    valid = torch.ones((1, 3), dtype=torch.bool)
    marginals = slot_marginals(scores, transitions, accepting, valid)
    assert marginals.transfer.isfinite().all()
    committed = torch.where(torch.tensor([False, False, True])[:, None], only_second(), scores)
    after = slot_marginals(committed, transitions, accepting, valid)
    assert after.log_total.isfinite()
    assert after.transfer[0, 2, 1].isfinite()


def only_second():
    return torch.tensor([-torch.inf, 0.0])


def test_a_choice_weighs_what_its_tokens_weigh_together():
    maximum = torch.log(torch.tensor([[[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]]]))
    choice_class = torch.tensor([[[1, 0], [2, 2], [1, 1]]])
    both = choice_scores(maximum, choice_class, torch.tensor([[True, True]]))
    torch.testing.assert_close(both.exp(), torch.tensor([[0.3, 0.075, 0.15]]))
    first = choice_scores(maximum, choice_class, torch.tensor([[True, False]]))
    torch.testing.assert_close(first.exp(), torch.tensor([[0.6, 0.3, 0.6]]))
