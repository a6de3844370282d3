"""What is not attempted for want of memory or time, and what a plan says of the rest."""

import pytest

from bench.machine.devices import Device
from bench.plan.benchmark import Benchmark, predict
from bench.store.schema import Ceilings
from mlr import Case, get_kernel

CEILINGS = Ceilings(
    dispatch_s=1e-6,
    bandwidth_bytes_per_s=[[1_000, 4e9], [100_000, 2e9], [10_000_000, 1e9]],
    flops_per_s={"float32": 2e9, "float64": 1e9},
)
CASE = Case("gradient", "cpu", "float64", 100, 6, 3)
MATMUL = Benchmark(get_kernel("matmul"), CASE)


def test_what_fits_is_attempted_and_says_what_it_costs() -> None:
    outcome = predict(MATMUL, CEILINGS, 1.0)
    assert (outcome.status, outcome.reason) == ("ok", None)
    columns = outcome.columns()
    assert columns["kernel"] == "matmul"
    assert columns["baseline"] == "autograd"
    assert (columns["batch"], columns["in_features"], columns["out_features"]) == CASE.sizes
    assert columns["predicted_peak_bytes"] == MATMUL.kernel.predicted_peak_bytes(CASE)
    assert columns["least_flops"] == CASE.least_flops
    assert (columns["least_bytes"], columns["input_bytes"]) == (CASE.least_bytes, CASE.input_bytes)
    assert "seed" not in columns


def test_what_takes_too_long_or_too_much_is_not_attempted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = predict(MATMUL, CEILINGS, 1e-9)
    assert slow.status == "infeasible"
    assert "one call takes at least" in slow.reason
    assert predict(MATMUL, None, 1e-9).status == "ok"  # nothing known of the device
    monkeypatch.setattr(Device, "free_bytes", lambda self: 10_000)
    large = predict(MATMUL, CEILINGS, 1.0)
    assert large.status == "infeasible"
    assert large.reason.endswith("168 B of it in the call; 8.30 KiB may be used")
