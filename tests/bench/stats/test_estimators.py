"""Estimates: the centre is robust, and the intervals hold what is true."""

import math

import numpy as np
import pytest

from bench.stats.estimators import common_prior, estimate, hodges_lehmann, quartiles


def test_one_wild_process_in_five_moves_the_centre_little() -> None:
    """A ratio of 5.7 that was 14.8 in one process in ten."""
    logs = [math.log(value) for value in (5.6, 5.7, 5.75, 14.8, 5.65)]
    assert math.exp(hodges_lehmann(logs)) == pytest.approx(5.7, rel=0.02)
    assert math.exp(float(np.mean(logs))) > 6.5  # what a mean would have said


@pytest.mark.parametrize("processes", [2, 5])
@pytest.mark.parametrize("alike", [True, False])
def test_intervals_hold_the_truth(processes: int, alike: bool) -> None:
    """40 cases a run, whose processes vary by 2 % each, or by anything from 0.5 to 8 %."""
    random = np.random.default_rng(1)
    held = count = 0
    for _ in range(60):
        sds = np.full(40, 0.02) if alike else np.exp(random.normal(math.log(0.02), 0.7, 40))
        logs = [list(random.normal(0.3, sd, processes)) for sd in sds]
        prior = common_prior(logs)
        for values in logs:
            found = estimate(values, prior)
            assert found.low is not None
            assert found.high is not None
            held += found.low <= 0.3 <= found.high
            count += 1
    assert 0.92 <= held / count <= 0.985


def test_quartiles() -> None:
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
    assert all(map(math.isnan, quartiles([])))
