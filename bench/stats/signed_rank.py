"""The exact signed-rank test of one centre, and the bounds of the centre that invert it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def _distribution(count: int) -> NDArray[np.float64]:
    ways = np.ones(1)
    for rank in range(1, count + 1):
        longer = np.zeros(len(ways) + rank)
        longer[: len(ways)] += ways
        longer[rank:] += ways
        ways = longer
    return np.cumsum(ways) / 2.0**count


def _walsh_sums(values: Sequence[float], centre: float = 0.0) -> NDArray[np.float64]:
    array = np.asarray(values) - centre
    return (array[:, None] + array[None, :])[np.triu_indices(len(array))]


def lower_bound(values: Sequence[float], alpha: float) -> float:
    """Return the one-sided lower bound of the centre, by inverting the exact signed-rank test.

    The centre of symmetric values lies below it with a probability of at most alpha (Hollander,
    Wolfe and Chicken 2014, "Nonparametric Statistical Methods", section 3.3). Minus infinity where
    there are too few values to say.
    """
    below = int(np.searchsorted(_distribution(len(values)), alpha, side="right"))
    return float(np.sort(_walsh_sums(values))[below - 1]) / 2 if below else -math.inf


def upper_bound(values: Sequence[float], alpha: float) -> float:
    """Return the one-sided upper bound of the centre; see `lower_bound`."""
    return -lower_bound([-value for value in values], alpha)


def p_value(values: Sequence[float], centre: float) -> float:
    """Return the exact probability of values so high if their centre were at most `centre`."""
    if not values:
        return 1.0
    not_above = int((_walsh_sums(values, centre) <= 0).sum())  # the statistic of negated values
    return float(_distribution(len(values))[not_above])
