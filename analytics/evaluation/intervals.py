"""Measured values with bootstrap intervals.

Every measure is a function of how often each call counts. Once each gives the value; counts drawn with replacement give
its spread. Calls are drawn whole, because the errors within a call go together. Two systems measured on the same calls
are compared under the same draws, so that what is common to both cancels out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NUM_RESAMPLES = 1_000  # the ends of a 95 % interval then rest on 25 draws each
LEVEL = 0.95


class Statistic(Protocol):
    """Computes a measure for many weightings of the calls at once."""

    def __call__(self, weights: Array) -> Array:
        """`weights` [num_draws, num_calls], how often each call counts → [num_draws], NaN where undefined."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Something measured on a set of calls. `count` is what it rests on: calls, words, claims, cited turns."""

    statistic: Statistic
    count: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its 95 % interval; all None when nothing was there to measure.

    An interval of width 0 means that every call agreed, not that the value is certain: after 0 errors in `count` the
    rate may still be 3 / count.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int


class Bootstrap:
    """Seeded draws with replacement from `num_calls` calls, the same for every measure taken with it."""

    def __init__(self, num_calls: int, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> None:
        random = np.random.default_rng(seed)
        draws = np.zeros((num_resamples, num_calls))
        if num_calls:
            for draw in draws:
                draw += np.bincount(random.integers(num_calls, size=num_calls), minlength=num_calls)
        self._draws: Array = draws
        self._once = np.ones((1, num_calls))

    def estimate(self, measure: Measure) -> Estimate:
        """The measure with its interval."""
        return _estimate(measure.statistic, self._once, self._draws, measure.count)

    def difference(self, measure: Measure, baseline: Measure) -> Estimate:
        """How much higher `measure` is than `baseline`, both taken on the same calls in the same order."""

        def statistic(weights: Array) -> Array:
            return measure.statistic(weights) - baseline.statistic(weights)

        return _estimate(statistic, self._once, self._draws, min(measure.count, baseline.count))


def _estimate(statistic: Statistic, once: Array, draws: Array, count: int) -> Estimate:
    value = float(statistic(once)[0]) if once.size else float("nan")
    if np.isnan(value):
        return Estimate(None, None, None, count)
    drawn = statistic(draws)
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), count)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Measure:
    """Sum over sum, one entry per call: a rate over all words, fields or claims of the calls."""
    upper, lower = np.asarray(numerators, float), np.asarray(denominators, float)
    assert upper.shape == lower.shape

    def statistic(weights: Array) -> Array:
        return _divide(weights @ upper, weights @ lower)

    return Measure(statistic, round(lower.sum()))


def share(hits: Sequence[bool]) -> Measure:
    """The share of calls that hit."""
    return ratio([float(hit) for hit in hits], [1.0] * len(hits))


def macro_f1(expected: Sequence[Hashable], found: Sequence[Hashable]) -> Measure:
    """Mean F1 over the values that occur as expected or as found, each value counting the same, however rare."""
    assert len(expected) == len(found)
    values = list(dict.fromkeys([*expected, *found]))
    is_expected = np.array([[e == value for value in values] for e in expected], float)
    is_found = np.array([[f == value for value in values] for f in found], float)

    def statistic(weights: Array) -> Array:
        both = weights @ (is_expected * is_found)
        either = weights @ (is_expected + is_found)
        return _divide(_divide(2 * both, either, 0.0).sum(1), (either > 0).sum(1))

    return Measure(statistic, len(expected))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Measure:
    """Spearman's rank correlation; equal values share their mean rank. Undefined when one side is constant."""
    assert len(first) == len(second)
    x, y = np.asarray(first, float), np.asarray(second, float)

    def statistic(weights: Array) -> Array:
        if not len(x):
            return np.full(len(weights), np.nan)
        rank_x, rank_y = _mean_ranks(x, weights), _mean_ranks(y, weights)
        total = weights.sum(1, keepdims=True)
        rank_x -= (weights * rank_x).sum(1, keepdims=True) / total
        rank_y -= (weights * rank_y).sum(1, keepdims=True) / total
        together = (weights * rank_x * rank_y).sum(1)
        apart = (weights * rank_x**2).sum(1) * (weights * rank_y**2).sum(1)
        return _divide(together, np.sqrt(apart))

    return Measure(statistic, len(x))


def _mean_ranks(values: Array, weights: Array) -> Array:
    """Rank of every value among the values repeated `weights` times, ties sharing the mean; [num_draws, num_calls]."""
    distinct, group = np.unique(values, return_inverse=True)
    in_group = np.zeros((len(weights), len(distinct)))
    for i_call, i_group in enumerate(group):
        in_group[:, i_group] += weights[:, i_call]
    below = in_group.cumsum(1) - in_group
    return (below + (in_group + 1) / 2)[:, group]


def _divide(numerator: Array, denominator: Array, otherwise: float = np.nan) -> Array:
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)
