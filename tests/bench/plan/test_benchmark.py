"""What is not attempted for want of memory or time, and what a plan says of the rest."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from paths import ROOT

from bench.common.errors import UserError
from bench.machine.devices import Accelerator, Device
from bench.plan import benchmark
from bench.plan.benchmark import Benchmark, free_bytes_of_new_process, predict
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
    assert columns["sizes"] == {"batch": 100, "in_features": 6, "out_features": 3}
    assert (columns["iterative"], columns["tolerance_of"]) == (False, "bound")
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


@pytest.fixture
def nothing_told() -> Iterator[None]:
    """No device has told before, nor does it afterwards."""
    benchmark._told_by_new_process.cache_clear()
    yield
    benchmark._told_by_new_process.cache_clear()


@pytest.mark.usefixtures("nothing_told")
def test_who_only_plans_asks_a_new_process_and_holds_no_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the mode of one process a GPU would let in none of those that measure."""
    asked: list[str] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        return subprocess.CompletedProcess(command, 0, "12000\n", "")

    def touch(self: Device) -> int:
        raise AssertionError("a context here")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(Accelerator, "free_bytes", touch)
    monkeypatch.setattr("bench.plan.benchmark.unavailable_reason", lambda device: None)
    entry = Benchmark(MATMUL.kernel, replace(CASE, device="cuda"))
    for _ in range(2):
        outcome = predict(entry, free_bytes=free_bytes_of_new_process)
        assert outcome.reason.endswith("9.96 KiB may be used")
    assert len(asked) == 1
    assert predict(MATMUL, free_bytes=free_bytes_of_new_process).status == "ok"
    assert len(asked) == 1  # of the host it needs no other


@pytest.mark.usefixtures("nothing_told")
def test_a_device_that_lets_no_process_in_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "Traceback:\n  File\ntorch.AcceleratorError: CUDA-capable device(s) is/are busy\n"
    failed = subprocess.CompletedProcess([], 1, "", busy)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match=r"cuda refuses: .* busy; see whether another") as caught:
        free_bytes_of_new_process("cuda")
    assert "\n" not in str(caught.value)


PLAN_ONLY = """
import argparse, ctypes
from bench.plan.benchmark import free_bytes_of_new_process, planned, predict, require_present
from bench.plan.selection import Selection, add_axes
parser = argparse.ArgumentParser()
add_axes(parser.add_argument)
axes = Selection.from_args(parser.parse_args(["--grid=smoke", "--device=cuda"]))
require_present(axes)
told = [predict(entry, free_bytes=free_bytes_of_new_process) for entry in planned(axes)]
assert any(outcome.status == "ok" for outcome in told)
driver, flags, active = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint(), ctypes.c_int()
assert driver.cuInit(0) == 0
assert driver.cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active)) == 0
print("contexts:", active.value)
"""


@pytest.mark.cuda
def test_planning_for_a_gpu_makes_no_context_on_it() -> None:
    done = subprocess.run([sys.executable, "-c", PLAN_ONLY], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.stdout.endswith("contexts: 0\n"), done.stderr
