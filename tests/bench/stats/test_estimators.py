"""Estimates: the centre is robust, and the intervals hold what is true."""

import math

import numpy as np
import pytest
from scipy import special

from bench.stats.estimators import (
    common_prior,
    estimate,
    hodges_lehmann,
    quartiles,
    repeated_error,
)


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


@pytest.mark.parametrize(
    ("looks", "reach"), [(1, 1.960), (2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413)]
)
def test_looks_at_growing_data_err_as_in_pococks_table(looks: int, reach: float) -> None:
    """Of the two-sided test at 5 %, Jennison and Turnbull 2000, table 2.1."""
    assert math.erfc(reach / math.sqrt(2)) == pytest.approx(repeated_error(1, looks), abs=1e-4)


def test_later_looks_are_more_alike() -> None:
    """From two values to five the sums share more than from one to four."""
    assert repeated_error(1, 4) < repeated_error(2, 5) < repeated_error(5, 6) < 0.05
    assert repeated_error(5, 5) == 0.05
    random = np.random.default_rng(7)
    sums = np.cumsum(random.normal(size=(200_000, 5)), axis=1)[:, 1:]
    reach = math.sqrt(2) * float(special.erfcinv(repeated_error(2, 5)))
    missed = (np.abs(sums) > reach * np.sqrt(np.arange(2, 6))).any(axis=1).mean()
    assert missed == pytest.approx(0.05, abs=0.002)


def test_quartiles() -> None:
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
    assert all(map(math.isnan, quartiles([])))
