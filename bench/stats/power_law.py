"""Points -> exponent: the power of a size by which something grows, where it has settled. Pure.

*Settled* is the longest tail of largest sizes, at least three over a factor of four or more, that
is straight on log axes: the local slope changes along it by no more than its uncertainty, or by
less than 0.1, which the interval then holds.

*The interval* is Student's for the slope of the tail, but its upper end also lets a constant be
under the power law: t = c + b·sizeᵖ with any c ≥ 0 that fits the points as well. Small sizes are
mostly dispatch, and a curve that has only begun to rise looks straight. Where the interval comes
out wider than 0.5 it tells no power from the next: not settled.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special  # all of scipy.stats takes half a second to import

Array = NDArray[np.float64]

FEWEST, SPAN = 3, 4.0  # points of a tail, and its largest size over its smallest
RISE = 4.0  # from the smallest value to the last; with less of it most may be a constant
EVEN = 0.1  # a change of the slope that is small, however well it is known
WIDEST = 0.5  # an interval that is wider tells no power from the next


class Fit(NamedTuple):
    """An exponent, its 95 % interval, and the sizes of the tail it was found on."""

    exponent: float
    low: float
    high: float
    first: float
    last: float
    points: int


def settled(sizes: Array, values: Array, noise: Array, freedom: Array) -> Fit | None:
    """Return the exponent of the longest settled tail, or None where nothing has settled.

    Args:
        sizes: Above zero, each once.
        values: Above zero, one a size.
        noise: The standard deviation of the logarithm of each value.
        freedom: The degrees of freedom behind each noise; they add up.
    """
    order = np.argsort(sizes)
    x, y = np.log(sizes[order]), np.log(values[order])
    noise, freedom = noise[order], freedom[order]
    if y[-1] - y.min() < np.log(RISE):
        return None
    for start in range(len(x) - FEWEST + 1):
        if x[-1] - x[start] < np.log(SPAN) - 1e-9:
            return None
        ends = _interval(x[start:], y[start:], noise[start:], float(freedom[start:].sum()))
        if ends is not None:
            tail = np.sort(sizes)[start:]
            return Fit(*ends, float(tail[0]), float(tail[-1]), len(tail))
    return None


def slope(sizes: Array, values: Array) -> float:
    """Return the slope of the least-squares line on log axes; NaN without two sizes.

    >>> round(slope(np.array([1.0, 10.0, 100.0]), np.array([2.0, 200.0, 20_000.0])), 6)
    2.0
    """
    known = np.isfinite(values) & (values > 0)
    if len(np.unique(sizes[known])) < 2:
        return float("nan")
    x, y = np.log(sizes[known]), np.log(values[known])
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))


def _interval(
    x: Array, y: Array, noise: Array, freedom: float
) -> tuple[float, float, float] | None:
    # Slope, low and high end of a straight tail; None for one that bends or tells no power.
    known = float(np.sqrt(np.mean(noise**2)))
    centred = x - x.mean()
    spread = float(centred @ centred)
    middle = float(centred @ y / spread)
    left = y - y.mean() - middle * centred
    rest = float(left @ left)
    deviation = max(known, float(np.sqrt(rest / (len(x) - 2))))
    reach = float(special.stdtrit(freedom + len(x) - 2, 0.975)) * deviation
    bend = _bend(x, y, known, freedom)
    if bend > EVEN:
        return None
    reach /= spread**0.5
    low, high = middle - reach - bend / 2, middle + reach + bend / 2
    high = _highest(x, y, high, rest + reach**2 * spread)
    return (middle, low, high) if high - low <= WIDEST else None


def _bend(x: Array, y: Array, known: float, freedom: float) -> float:
    # By how much a parabola's slope changes along the points; 0 if within its uncertainty.
    design = np.vander(x - x.mean(), 3)
    inverse = np.linalg.inv(design.T @ design)
    term = inverse @ design.T @ y
    left = y - design @ term
    free = len(x) - 3
    deviation = max(known, float(np.sqrt(left @ left / free)) if free else 0.0)
    reach = float(special.stdtrit(max(freedom + free, 1), 0.975)) * deviation * inverse[0, 0] ** 0.5
    change = 2 * float(term[0]) * float(x[-1] - x[0])
    return abs(change) if abs(term[0]) > reach else 0.0


def _highest(x: Array, y: Array, least: float, limit: float) -> float:
    # The largest p with some c ≥ 0 and b for which c + b·sizeᵖ leaves no more than the limit.
    powers = least + np.concatenate([[0.0], np.geomspace(1e-3, 2 * WIDEST, 100)])
    rise = np.exp(powers[:, None, None] * (x - x[0]))
    # From a constant that nobody sees to one under which nobody sees the power law.
    most = 1e8 * rise.max(axis=2, keepdims=True)
    shares = 1e-4 * most ** np.linspace(0, 1, 200)[None, :, None]
    left = y - np.log(np.concatenate([np.zeros_like(shares[:, :1]), shares], axis=1) + rise)
    left -= left.mean(axis=2, keepdims=True)
    fits = (left**2).sum(axis=2).min(axis=1) <= limit
    return float(powers[fits].max(initial=least))
