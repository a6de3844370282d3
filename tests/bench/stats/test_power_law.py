"""Exponents: the true one lies in the interval, and a curve that has not settled gets none."""

import doctest

import numpy as np
import pytest

from bench.stats import power_law as power
from bench.stats.power_law import WIDEST, Fit, settled, slope

TRIALS = 100


def measured(
    truth: np.ndarray, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values with noise, what five passes would say of the noise, and how well they know it."""
    said = noise * np.sqrt(rng.chisquare(4, len(truth)) / 4)
    values = truth * np.exp(noise * rng.standard_normal(len(truth)))
    return values, said, np.full(len(truth), 4.0)


def test_examples() -> None:
    assert doctest.testmod(power).failed == 0


@pytest.mark.parametrize(("points", "step"), [(3, 10), (5, 4), (7, 4), (10, 2)])
@pytest.mark.parametrize("dispatch", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("true", [0.5, 1.0, 2.0])
def test_the_true_exponent_is_inside(true: float, dispatch: float, points: int, step: int) -> None:
    """At most one interval in ten misses: of those given, and of all."""
    rng = np.random.default_rng(1)
    sizes = 8.0 * float(step) ** np.arange(points)
    truth = dispatch * 8**true + sizes**true
    noises = [0.01, 0.05] * (TRIALS // 2)
    fits = [settled(sizes, *measured(truth, noise, rng)) for noise in noises]
    given = [fit for fit in fits if fit is not None]
    missed = sum(not fit.low <= true <= fit.high for fit in given)
    assert missed <= max(0.1 * len(given), 0.03 * TRIALS)


@pytest.mark.parametrize(("true", "dispatch"), [(1.0, 0.0), (1.0, 30.0), (2.0, 30.0)])
def test_a_settled_curve_is_given_its_exponent(true: float, dispatch: float) -> None:
    """An interval that holds everything, or is never given, would pass the test above."""
    rng = np.random.default_rng(2)
    sizes = 4.0 ** np.arange(1, 8)
    truth = dispatch + sizes**true
    fits = [settled(sizes, *measured(truth, 0.03, rng)) for _ in range(TRIALS)]
    given = [fit for fit in fits if fit is not None]
    assert len(given) >= 0.9 * TRIALS
    assert np.median([fit.high - fit.low for fit in given]) < 0.2


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("noise", [0.001, 0.05])
def test_dispatch_alone_has_no_exponent(true: float, noise: float) -> None:
    """Flat, and straight as it can be: the power law is still below the noise."""
    rng = np.random.default_rng(3)
    sizes = 4.0 ** np.arange(1, 8)
    truth = 1e6 * sizes[-1] ** true + sizes**true
    assert all(settled(sizes, *measured(truth, noise, rng)) is None for _ in range(TRIALS))


def test_a_curve_that_goes_on_bending_has_no_exponent() -> None:
    sizes = 4.0 ** np.arange(1, 8)
    truth = np.exp(0.15 * np.log(sizes) ** 2)
    noise = np.full(7, 0.01), np.full(7, 4.0)
    assert settled(sizes, truth, *noise) is None
    assert settled(sizes, sizes, *noise) is not None


def test_the_small_sizes_are_left_out() -> None:
    sizes = 4.0 ** np.arange(1, 9)
    truth = 300.0 + sizes
    exact = np.full(8, 0.003), np.full(8, 10.0)
    fit = settled(sizes, truth, *exact)
    assert isinstance(fit, Fit)
    assert fit.first > 300
    assert (fit.last, fit.points) == (4.0**8, int((sizes >= fit.first).sum()))
    assert fit.low <= 1.0 <= fit.high
    assert fit == settled(sizes[::-1], truth[::-1], *exact)


def test_three_sizes_over_a_factor_of_four() -> None:
    known = np.full(3, 0.001), np.full(3, 4.0)
    assert settled(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0]), *known) is not None
    assert settled(np.array([1.0, 2.0, 3.9]), np.array([1.0, 4.0, 15.0]), *known) is None
    two = np.array([1.0, 100.0])
    assert settled(two, two, *(array[:2] for array in known)) is None


def test_noise_widens_and_at_last_forbids() -> None:
    sizes = 10.0 ** np.arange(4)
    widths = []
    for noise in (0.001, 0.01, 0.1):
        fit = settled(sizes, sizes, np.full(4, noise), np.full(4, 4.0))
        assert fit is not None
        widths.append(fit.high - fit.low)
    assert widths == sorted(widths)
    assert widths[-1] <= WIDEST
    assert settled(sizes, sizes, np.full(4, 1.0), np.full(4, 4.0)) is None


def test_a_scatter_that_the_noise_does_not_explain_widens_too() -> None:
    sizes = 4.0 ** np.arange(8)
    wobble = np.exp(0.1 * np.array([1, -1, -1, 1, 1, -1, -1, 1]))
    known = np.full(8, 0.001), np.full(8, 4.0)
    calm, wild = settled(sizes, sizes, *known), settled(sizes, sizes * wobble, *known)
    assert calm is not None
    assert wild is not None
    assert wild.exponent - wild.low > 10 * (calm.exponent - calm.low)
    assert wild.high - wild.exponent > 10 * (calm.high - calm.exponent)


def test_a_slope_needs_two_sizes() -> None:
    nan = float("nan")
    assert np.isnan(slope(np.array([1.0, 2.0]), np.array([1.0, nan])))
    assert np.isnan(slope(np.array([1.0, 2.0]), np.array([0.0, 0.0])))
    assert slope(np.array([1.0, 2.0, 4.0]), np.array([3.0, nan, 48.0])) == pytest.approx(2.0)
