"""One sample: what a baseline measures of itself, and what others measure against it."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.measure.benchmark import measure_sample
from bench.measure.timing import PhaseTimer
from bench.plan.benchmark import Benchmark
from mlr import Case, get_kernel


def timer(call: Callable[[], Any], about_s: float) -> dict[str, Any]:
    return {"median_s": 1.0, "rounds": 1}


@pytest.mark.parametrize("name", ["torch_nn", "fused_addmm"])
def test_every_kernel_is_timed_in_slices_a_baseline_against_itself(name: str) -> None:
    benchmark = Benchmark(get_kernel(name), Case("step", "cpu", "float32", 33, 6, 3))
    sample = measure_sample(benchmark, timer, PhaseTimer(), 1)
    assert 0 < sample["paired_s"] < 0.1  # and not the second that the timer says
    assert sample["abba_blocks"] > 0
    assert (sample["log_speedup"] is None) == (name == "torch_nn")
