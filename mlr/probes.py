"""Inputs to check a kernel on: each shows an error that rounding hides on ordinary ones.

On normal inputs an element of Xᵀδ sums m products of either sign. What one row adds, a relative
error of 10⁻⁴ or a half-precision copy of X changes it by less than its rounding may, from some
10⁵ rows on in float32. Here an element sums few products, whatever m is: then each of them counts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .case import Gradient, Problem

MEAN = 3.0  # in standard deviations
FEW_ROWS = 64  # as many as there are features where these are more
LEAST_CHANGE = 4.0  # by a step on few rows, in parameters: it moves each by so many times itself
STREAM, START_STREAM = 5, 6  # of the problem's random numbers; operations draw from those before


def few_row_count(m: int, n: int, o: int = 1) -> int:
    """Return how many rows `few_rows` leaves in m rows of n features, whatever the outputs o."""
    return min(m, max(n, FEW_ROWS))


def one_product_a_row(problem: Problem) -> tuple[Tensor, Tensor]:
    """Draw X (m, n) and Y or δ (m, o) of one number a row, ±1 to ±2, the others zero.

    Row p then adds to one element of XᵀY alone, which sums m/(n·o) products, and a kernel that
    leaves it out is off by one in so many.
    """
    m, n, o = problem.case.sizes
    generator = _generator(problem)
    return _one_hot(m, n, generator), _one_hot(m, o, generator)


def few_rows(problem: Problem) -> tuple[Tensor, Tensor]:
    """Draw X (m, n) and Y or δ (m, o) that are zero but for few rows, at random places.

    One number of each such row of X, and all of Y, lie from 1 to 2. Products of one sign do not
    cancel, so that a relative error of theirs is one of their sum.
    """
    m, n, o = problem.case.sizes
    generator = _generator(problem)
    rows = torch.randperm(m, generator=generator)[: few_row_count(m, n)]
    x, y = (torch.zeros(m, columns, dtype=torch.float64) for columns in (n, o))
    x[rows, torch.arange(len(rows)) % n] = _one_to_two(generator, len(rows))
    y[rows] = _one_to_two(generator, len(rows), o)
    return x, y


def few_rows_step(problem: Problem) -> tuple[Tensor, Tensor, Gradient]:
    """Draw X, Y and the parameters of a step on `few_rows` that changes W by far more than W.

    X and Y are larger by a power of two, so that a step of the problem's learning rate does that.
    W is negative, and so each residual XW − Y a sum of one sign, half of which depends on W.
    """
    m, n, o = problem.case.sizes
    x, y = few_rows(problem)
    products = max(1.0, few_row_count(m, n) / n)  # of an element of W
    rate = 2 * problem.lr / (m * o) * products
    scale = 2.0 ** math.floor(math.log2(LEAST_CHANGE * 4 / rate) / 2)
    start = Gradient(-_one_to_two(_generator(problem, START_STREAM), n, o), torch.zeros(o))
    return x * scale, y * scale, start


def _generator(problem: Problem, stream: int = STREAM) -> torch.Generator:
    return torch.Generator().manual_seed(8 * problem.seed + stream)


def _one_to_two(generator: torch.Generator, *shape: int) -> Tensor:
    return 1 + torch.rand(*shape, generator=generator, dtype=torch.float64)


def _one_hot(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    places = torch.randint(columns, (rows, 1), generator=generator)
    signs = 2 * torch.randint(2, (rows, 1), generator=generator) - 1
    values = signs * _one_to_two(generator, rows, 1)
    return torch.zeros(rows, columns, dtype=torch.float64).scatter_(1, places, values)
