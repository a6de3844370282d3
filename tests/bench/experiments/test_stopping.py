"""Intervals tried on stored samples: what is drawn, what is the truth, and what holds it."""

import math
from typing import Any

import numpy as np
import pytest
from run_builder import add_case, build_run

from bench.experiments import stopping
from bench.plan.grid import Processes
from bench.store.schema import Run

SIZES = ((33, 6, 3), (100, 6, 3), (1_000, 6, 3), (10_000, 6, 3))
KERNELS = {"torch_nn": 0.0, "fused_addmm": 1.0, "one_pass_step": 1.5, "auto_step": 1.5}


def stored(noise_sd: float, seed: int) -> Run:
    """A run of five processes, whose speedups vary by so much; `auto_step` as `one_pass_step`."""
    run: dict[str, Any] = build_run([], processes=5)
    for size in SIZES:
        for kernel in KERNELS:
            add_case(run, "step", kernel, size)
    random = np.random.default_rng(seed)
    for entry in run["benchmarks"]:
        kernel = entry["extra_info"]["kernel"]
        logs: list[float | None] = list(KERNELS[kernel] + random.normal(0, noise_sd, 5))
        if kernel == "torch_nn":
            logs = [None] * 5
        if kernel == "auto_step":
            entry["extra_info"]["role"] = "auto"
        entry["samples"] = [
            {"process": n, "median_s": 1e-5, "rounds": 9, "log_speedup": log, "contended": False}
            for n, log in enumerate(logs, 1)
        ]
        entry["extra_info"]["processes"] = 5
    for outcome in run["outcomes"]:
        outcome["role"] = "auto" if outcome["kernel"] == "auto_step" else "kernel"
    return Run.model_validate(run)


@pytest.mark.parametrize("processes", [Processes(2, 5), Processes(5, 5)])
def test_intervals_of_stored_noise_hold_what_is_known(processes: Processes) -> None:
    found = stopping.cover([stored(0.03, 1), stored(0.03, 2)], processes, trials=40)
    assert list(found["of"]) == ["itself", "two kernels"]
    assert list(found["intervals"]) == [40 * len(SIZES), 40 * len(SIZES) * 3]
    assert found["held"].min() > 0.85
    assert found["processes"].between(*processes).all()
    again = stopping.cover([stored(0.03, 1), stored(0.03, 2)], processes, trials=40)
    assert again.equals(found)


def test_an_interval_that_is_too_narrow_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = stopping.estimates

    def half(*given: Any) -> Any:
        return {
            name: one._replace(low=one.centre - (one.high - one.centre) / 4,
                               high=one.centre + (one.high - one.centre) / 4)
            for name, one in usual(*given).items()
        }  # fmt: skip

    monkeypatch.setattr(stopping, "estimates", half)
    found = stopping.cover([stored(0.03, 1), stored(0.03, 2)], Processes(5, 5), trials=40)
    assert found["held"].max() < 0.8


def test_noise_is_as_large_as_it_was() -> None:
    """Five values lie nearer to their own mean than to the truth: that is made up for."""
    runs = [stored(0.05, seed) for seed in range(20)]
    entries = [{one.fullname: one for one in run.benchmarks} for run in runs]
    _, truth, noise = stopping._stored(entries, Processes(2, 5))
    assert len(truth) == len(SIZES) * 4
    for name, off in noise.items():
        assert math.sqrt(np.mean(np.square(off["log_speedup"]))) == pytest.approx(
            0.05 * (math.sqrt(2) if name.startswith("auto_step ÷") else 1.0), rel=0.25
        )
