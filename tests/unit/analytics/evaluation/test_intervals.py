"""Measures against values worked out by hand, and against naive twins on resampled lists."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.evaluation.intervals import (
    Bootstrap,
    Measure,
    macro_f1,
    rank_correlation,
    ratio,
    share,
)


def once(measure: Measure, num_calls: int) -> float:
    return float(measure.statistic(np.ones((1, num_calls)))[0])


def repeated(values: list[int], weights: list[int]) -> list[int]:
    return [value for value, weight in zip(values, weights, strict=True) for _ in range(weight)]


def test_ratio_is_sum_over_sum():
    measure = ratio([1, 3], [4, 16])
    assert once(measure, 2) == pytest.approx(4 / 20)  # the mean of the ratios would be 0.21875
    assert measure.count == 20


def test_ratio_of_nothing_is_undefined():
    estimate = Bootstrap(2, seed=1).estimate(ratio([0, 0], [0, 0]))
    assert (estimate.value, estimate.low, estimate.high, estimate.count) == (None, None, None, 0)


def test_no_calls_at_all():
    bootstrap = Bootstrap(0, seed=1)
    for measure in (share([]), macro_f1([], []), rank_correlation([], [])):
        assert bootstrap.estimate(measure).value is None


def test_macro_f1_by_hand():
    expected = ["a", "a", "a", "b", "c"]
    found = ["a", "a", "b", "b", "d"]
    # a: 2*2/(3+2) = .8, b: 2*1/(1+2) = 2/3, c and d: 0
    assert once(macro_f1(expected, found), 5) == pytest.approx((0.8 + 2 / 3) / 4)


def test_rank_correlation_by_hand():
    # ranks 1 2 3 4 5 against 2 1 4 3 5: 1 - 6 * (1+1+1+1+0) / (5 * 24) = 0.8
    assert once(rank_correlation([1, 2, 3, 4, 5], [20, 10, 40, 30, 50]), 5) == pytest.approx(0.8)
    # ties share rank 1.5: cov of (1.5, 1.5, 3) and (1, 2, 3) over their spreads = 1.5 / sqrt(1.5 * 2)
    assert once(rank_correlation([7, 7, 9], [1, 2, 3]), 3) == pytest.approx(1.5 / math.sqrt(3))


def test_rank_correlation_of_a_constant_is_undefined():
    assert math.isnan(once(rank_correlation([1, 1, 1], [1, 2, 3]), 3))


def naive_spearman(x: list[int], y: list[int]) -> float:
    def ranks(values: list[int]) -> list[float]:
        return [sum(v < value for v in values) + (values.count(value) + 1) / 2 for value in values]

    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def naive_macro_f1(expected: list[int], found: list[int]) -> float:
    counts_expected, counts_found = Counter(expected), Counter(found)
    both = Counter(e for e, f in zip(expected, found, strict=True) if e == f)
    values = counts_expected.keys() | counts_found.keys()
    return sum(2 * both[v] / (counts_expected[v] + counts_found[v]) for v in values) / len(values)


rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=3, max_size=12
)


@given(rows)
def test_weights_mean_repetition(table: list[tuple[int, int, int]]):
    x, y, weights = (list(column) for column in zip(*table, strict=True))
    x_repeated, y_repeated = repeated(x, weights), repeated(y, weights)
    as_floats = np.array([weights], float)
    if x_repeated:
        assert macro_f1(x, y).statistic(as_floats)[0] == pytest.approx(
            naive_macro_f1(x_repeated, y_repeated)
        )
    if len(set(x_repeated)) > 1 and len(set(y_repeated)) > 1:
        assert rank_correlation(x, y).statistic(as_floats)[0] == pytest.approx(
            naive_spearman(x_repeated, y_repeated)
        )


def test_intervals_are_seeded_and_cover_the_binomial_spread():
    measure = share([True] * 80 + [False] * 20)
    first = Bootstrap(100, seed=3).estimate(measure)
    assert first == Bootstrap(100, seed=3).estimate(measure)
    assert first != Bootstrap(100, seed=4).estimate(measure)
    assert first.value == pytest.approx(0.8)
    # 1.96 * sqrt(.8 * .2 / 100) = 0.078
    assert first.low == pytest.approx(0.8 - 0.078, abs=0.015)
    assert first.high == pytest.approx(0.8 + 0.078, abs=0.015)


def test_paired_difference_cancels_what_is_common():
    right = [i % 2 == 0 for i in range(400)]
    better = [hit or i == 1 for i, hit in enumerate(right)]
    bootstrap = Bootstrap(400, seed=5)
    difference = bootstrap.difference(share(better), share(right))
    alone = bootstrap.estimate(share(right))
    assert difference.value == pytest.approx(1 / 400)
    assert difference.high - difference.low < (alone.high - alone.low) / 5
    assert bootstrap.difference(share(right), share(right)).high == 0.0
