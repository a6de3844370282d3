"""A benchmark ends once its interval is narrow enough, and the interval still holds the truth."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.experiments.stopping import until_enough
from bench.plan.grid import Processes
from bench.run.stopping import Timed, estimates, wanting

TWO_TO_FIVE = Processes(2, 5)
HOT, COLD = "log_speedup", "log_speedup_cold"


def sample(log: float, cold: float | None = None, contended: bool = False) -> dict[str, Any]:
    return {HOT: log, COLD: log if cold is None else cold, "contended": contended}


def timed(*logs: float, case: str = "", is_rival: bool = True, **changed: Any) -> Timed:
    samples = [sample(log) for log in logs]
    return Timed(samples, TWO_TO_FIVE, 1, case, is_rival)._replace(**changed)


def wanted(**some: Timed) -> list[str]:
    """Return which of some want another process.

    They are among many others, each of a case of its own, whose processes differ little.
    """
    random = np.random.default_rng(0)
    sds = np.exp(random.normal(math.log(0.002), 0.7, (300, 1)))
    logs = 1.0 + sds * random.normal(size=(300, 2))
    others = {f"other-{n}": timed(*logs[n], case=f"case-{n}") for n in range(300)}
    return [name for name in wanting(others | some) if name in some]


def test_two_processes_that_agree_are_enough() -> None:
    assert wanted(alike=timed(1.0, 1.01, case="it")) == []
    assert wanted(apart=timed(0.9, 1.3, case="it")) == ["apart"]


def test_cold_inputs_count_as_much() -> None:
    samples = [sample(1.0, 0.9), sample(1.01, 1.3)]
    assert wanted(apart=timed(case="it", samples=samples)) == ["apart"]


def test_the_fastest_two_are_told_apart_and_others_need_less() -> None:
    """Wide for a claim, and wide for none."""
    nearly = {"fastest": timed(2.00, 2.02, case="it"), "second": timed(1.98, 2.00, case="it")}
    slow = timed(0.9, 1.0, case="it")
    assert wanted(**nearly, slow=slow) == ["fastest", "second"]
    assert wanted(slow=slow) == ["slow"]  # now it is the fastest
    apart = nearly | {"second": timed(1.80, 1.82, case="it")}
    assert wanted(**apart, slow=slow) == []


def test_whether_a_kernel_beats_the_baseline_is_a_claim() -> None:
    assert wanted(near=timed(0.00, 0.03, case="it")) == ["near"]
    assert wanted(near=timed(0.20, 0.22, case="it")) == []


def test_a_kernel_is_no_rival_of_its_own_other_name() -> None:
    both = {"it": timed(2.0, 2.02, case="it"), "auto": timed(2.0, 2.02, case="it", is_rival=False)}
    assert wanted(**both) == []


def test_what_calls_another_needs_less_where_that_is_timed_too() -> None:
    wide = timed(1.97, 2.03, case="it", is_rival=False)
    assert wanted(auto=wide) == ["auto"]
    assert wanted(auto=wide, it=timed(2.0, 2.01, case="it")) == []
    assert wanted(
        auto=timed(1.4, 2.6, case="it", is_rival=False), it=timed(2, 2.01, case="it")
    ) == ["auto"]


def test_a_disturbed_sample_is_no_process() -> None:
    samples = [sample(1.0, contended=True), sample(1.01)]
    assert wanted(hit=timed(case="it", samples=samples)) == ["hit"]


def test_none_has_more_than_the_most_and_a_fixed_number_is_fixed() -> None:
    wild = timed(0.0, 1.0, 2.0, 3.0, 4.0, case="it")
    assert wanted(wild=wild) == []
    fixed = timed(1.0, 1.0, case="it", processes=Processes(5, 5))
    assert wanted(fixed=fixed) == ["fixed"]
    assert wanted(fixed=fixed._replace(samples=[sample(0.0)] * 5)) == []
    assert wanting({}) == []


# --- the intervals hold the truth -------------------------------------------------------------

Random = np.random.Generator
Noise = Callable[[Random], NDArray[np.float64]]  # of each kernel of a case in each process
CASES, KERNELS = 12, 5


def _normal(random: Random) -> NDArray[np.float64]:
    return random.normal(size=(CASES, KERNELS, 5))


def _heavy(random: Random) -> NDArray[np.float64]:
    """In one process of ten a kernel is off by five times as much as usual."""
    return _normal(random) * np.where(random.random((CASES, KERNELS, 5)) < 0.1, 5.0, 1.0)


def _common(random: Random) -> NDArray[np.float64]:
    """Half of the variance is of a process, and moves all of its kernels alike."""
    return np.sqrt(0.5) * (_normal(random) + random.normal(size=5))


def _drift(random: Random) -> NDArray[np.float64]:
    """The machine drifts by a standard deviation over five processes, up or down."""
    return _normal(random) + random.choice([-1, 1]) * np.linspace(-0.5, 0.5, 5)


@cache
def held_and_taken(
    noise: Noise, spread: float, timed: type[Timed] = Timed, runs: int = 60
) -> tuple[float, float]:
    """Return how often intervals hold the truth, and how many processes a benchmark had.

    Kernels of a case are near each other, and near the baseline: most have a rival.
    """
    random, held, taken = np.random.default_rng(5), [], []
    for _ in range(runs):
        truth = random.normal(0.0, 0.1, (CASES, KERNELS))
        sds = np.exp(random.normal(math.log(0.02), spread, (CASES, KERNELS, 1)))
        logs = truth[..., None] + sds * noise(random)
        cells = [(c, k) for c in range(CASES) for k in range(KERNELS)]
        plan = {f"{c}-{k}": timed([], TWO_TO_FIVE, 1, c) for c, k in cells}
        drawn = {f"{c}-{k}": [{HOT: log, "contended": False} for log in logs[c, k]]
                 for c, k in cells}  # fmt: skip
        ended = until_enough(drawn, plan)
        for (c, k), found in zip(cells, estimates(ended, HOT).values(), strict=True):
            held.append(found.holds(truth[c, k]))
        taken += [len(one.samples) for one in ended.values()]
    return float(np.mean(held)), float(np.mean(taken))


NOISES = [(noise, spread) for spread in (0.0, 0.7) for noise in (_normal, _heavy, _common, _drift)]


@pytest.mark.parametrize(
    ("noise", "spread"),
    [
        pytest.param(*one, marks=() if one in ((_heavy, 0.7), (_common, 0.7)) else pytest.mark.slow)
        for one in NOISES
    ],
)
def test_intervals_hold_the_truth_of_what_stops_early(noise: Noise, spread: float) -> None:
    """As often as they say, whether the kernels vary alike or by anything from 0.5 to 8 %."""
    held, taken = held_and_taken(noise, spread)
    assert held >= 0.94
    assert 2 < taken < 5


class Naive(Timed):
    """One with the usual intervals."""

    error = 0.05


def test_intervals_that_are_looked_at_again_and_again_would_not_otherwise() -> None:
    """The attack on the test: stop where two kernels seem apart."""
    kept, _ = held_and_taken(_common, 0.7)
    naive, _ = held_and_taken(_common, 0.7, Naive)
    assert naive < kept - 0.01
