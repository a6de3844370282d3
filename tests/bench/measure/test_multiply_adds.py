"""The rate of multiply-adds, one of the ceilings."""

import pytest

from bench.measure.multiply_adds import ROUNDS, bind_multiply_adds, write_multiply_adds


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_of_multiply_adds_that_are_really_done(dtype: str) -> None:
    """Each sum tends to s = s/2 + 1 = 2, in as many rounds as are counted."""
    text, flops = write_multiply_adds(dtype, 64)
    held = text.count("= call <")
    assert flops == 2 * ROUNDS * held * 64 // (int(dtype[-2:]) // 8)
    bound = bind_multiply_adds(dtype)
    bound.call()
    sums = bound.flops // (2 * ROUNDS * bound.totals.numel())
    assert bound.flops == 2 * ROUNDS * sums * bound.totals.numel() > 0
    assert (bound.totals == 2 * sums).all()
