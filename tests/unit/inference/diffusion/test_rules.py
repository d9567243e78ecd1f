import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.diffusion.rules import Doubt, Factor, Joint, Progress, Quota, Threshold

RULES = [
    Threshold(0.9),
    Threshold(0.5),
    Quota(1),
    Quota(3),
    Factor(1.0),
    Factor(0.2),
    Joint(0.7),
    Joint(-1.0),
    Doubt(0.0),
    Doubt(0.5),
]


def chosen(rule, confidence, is_open=None):
    row = torch.tensor([confidence])
    mask = torch.ones_like(row, dtype=torch.bool) if is_open is None else torch.tensor([is_open])
    return rule.choose(row, mask)[0].tolist()


def test_threshold_takes_all_that_pass_and_otherwise_the_best():
    assert chosen(Threshold(0.9), [0.95, 0.2, 0.9]) == [True, False, True]
    assert chosen(Threshold(0.9), [0.3, 0.2, 0.4]) == [False, False, True]


def test_quota_takes_the_best_few_and_the_earlier_of_equals():
    assert chosen(Quota(2), [0.5, 0.9, 0.5]) == [True, True, False]


def test_quota_spreads_masked_positions_as_llada_does():
    rule, counts = Quota(num_steps=4), []
    is_open = torch.ones((1, 11), dtype=torch.bool)
    for step in range(4):
        counts.append(int(is_open.sum()))
        progress = Progress(torch.tensor([step]), is_open.sum(1))
        taken = rule.choose(torch.full((1, 11), 0.5), is_open, progress)
        is_open &= ~taken
    assert counts == [11, 8, 5, 2]  # 11 // 4, and one more in the first 11 % 4 steps
    assert not is_open.any()


def test_factor_takes_the_longest_run_that_the_formula_allows():
    # thresholds for n = 1, 2, 3 are 1/2, 2/3, 3/4
    assert chosen(Factor(1.0), [0.9, 0.7, 0.74]) == [True, False, True]
    assert chosen(Factor(1.0), [0.3, 0.2, 0.1]) == [True, False, False]


def test_joint_takes_as_many_as_are_right_together_at_the_least():
    # doubts 0.05, 0.1, 0.2, 0.4 make 0.05, 0.15, 0.35, 0.75 together
    assert chosen(Joint(0.6), [0.8, 0.95, 0.6, 0.9]) == [True, True, False, True]
    assert chosen(Joint(0.9), [0.8, 0.95, 0.6, 0.9]) == [False, True, False, False]
    assert chosen(Joint(0.9), [0.3, 0.2]) == [True, False]


def test_doubt_takes_what_is_sure_and_one_more():
    assert chosen(Doubt(0.1), [0.99, 0.3, 0.97, 0.2]) == [True, True, True, False]
    assert chosen(Doubt(0.1), [0.97, 0.91, 0.94, 0.2]) == [True, True, True, False]
    assert chosen(Doubt(0.1), [0.3, 0.2, 0.4]) == [False, False, True]
    assert chosen(Doubt(0.1), [0.99, 0.3, 0.9], [True, False, False]) == [True, False, False]


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n),
            st.lists(st.booleans(), min_size=n, max_size=n),
        )
    )
)
def test_every_rule_moves_on_and_touches_open_positions_only(rule, drawn):
    confidence, is_open = drawn
    commit = chosen(rule, confidence, is_open)
    assert all(open_ for committed, open_ in zip(commit, is_open, strict=True) if committed)
    assert any(commit) == any(is_open)
