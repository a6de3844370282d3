"""Other inputs for calls that are timed again and again, so that none can remember its result."""

import random
from collections.abc import Callable

from mlr import Problem
from mlr.alteration import swap_numbers

REFRESHED_BYTES = 2**18  # inputs up to this size are drawn anew for every block; it takes 2 ms


def refresher(problem: Problem) -> Callable[[int], None]:
    """Return what changes the inputs of calls before a block: all numbers, or two if large."""
    seed, size = problem.seed, problem.case.input_bytes
    if size is None or size > REFRESHED_BYTES:
        return lambda block: swap_numbers(problem, random.SystemRandom())
    return lambda block: problem.resample(seed + block + 1)
