"""Device types: the clock of an accelerator that runs behind the host, and a new type."""

import argparse
import math
import sys
from dataclasses import replace
from unittest.mock import MagicMock

import pytest
import torch
from fake_stream import FakeCache, FakeStream, install_stream

from bench.machine import devices
from bench.machine.devices import DEVICES, Accelerator, Device, device_of
from bench.measure.paired import paired_ratio
from bench.measure.timing import seconds_per_call
from bench.plan.benchmark import planned, predict
from bench.plan.selection import Selection, add_axes
from bench.run.plugin import benchmark_mark
from mlr import KERNELS, get_kernel
from mlr.checks import DEVICE_TYPES


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> FakeStream:
    return install_stream(monkeypatch)


def test_a_call_that_returns_before_its_work_is_done_is_timed_whole(stream: FakeStream) -> None:
    def asynchronous() -> None:
        stream.launch(1e-3)

    start = stream.clock.now
    asynchronous()
    assert stream.clock.now - start < 1e-5  # what a clock that does not wait would have said
    stream.synchronize()
    assert seconds_per_call(asynchronous, "cuda") == pytest.approx(1e-3, rel=0.01)
    slow = paired_ratio(asynchronous, lambda: stream.launch(5e-4), "cuda", blocks=4, budget_s=60)
    assert math.exp(slow.log_ratio) == pytest.approx(2, rel=0.02)


def test_what_is_cold_on_an_accelerator_is_behind_other_data(
    stream: FakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FakeCache(stream)
    cache.install(monkeypatch)
    resets: list[float] = []
    monkeypatch.setattr(
        Accelerator, "reset_persisting_lines", lambda _: resets.append(stream.free_at)
    )
    cache.call("inputs", 1e-3, 1e-3)
    evict = device_of("cuda").evictor([])
    assert cache.held
    evict()
    assert not cache.held
    assert resets[0] < stream.clock.now  # once the call was done, which may have kept lines
    assert Device().reset_persisting_lines() is None


def test_no_driver_of_nvidia_keeps_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(devices.ctypes, "CDLL", missing)
    assert device_of("cuda").reset_persisting_lines() is False
    driver = MagicMock()
    driver.cuCtxResetPersistingL2Cache.return_value = 0
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: driver)
    assert device_of("cuda").reset_persisting_lines() is True


def test_a_machine_without_an_accelerator_says_so() -> None:
    for name in DEVICES:
        reason = devices.unavailable_reason(name)
        assert reason is None or reason == f"no {name.upper()} device on this machine"
    assert devices.unavailable_reason("cpu") is None
    assert (devices.accelerator_name() is None) == (not torch.accelerator.is_available())
    assert tuple(DEVICES) == DEVICE_TYPES


def test_a_gpu_without_nvml_tells_nothing_of_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert device_of("cuda").load() == {}


@pytest.mark.parametrize(("reasons", "throttled"), [(0, False), (3, False), (4, True), (5, True)])
def test_a_gpu_is_throttled_where_it_is_neither_idle_nor_set_so(
    monkeypatch: pytest.MonkeyPatch, reasons: int, throttled: bool
) -> None:
    nvml = MagicMock(
        NVML_CLOCK_SM=1,
        nvmlClocksThrottleReasonNone=0,
        nvmlClocksThrottleReasonGpuIdle=1,
        nvmlClocksThrottleReasonApplicationsClocksSetting=2,
    )
    nvml.nvmlDeviceGetClockInfo.return_value = 1_980
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons.return_value = reasons
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert device_of("cuda").load() == {"gpu_mhz": 1_980.0, "gpu_throttled": throttled}


def test_another_type_needs_its_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `DEVICES` has from `DEVICE_TYPES` is an axis, is planned, timed and probed as such."""
    monkeypatch.setitem(DEVICES, "xpu", Accelerator("xpu"))
    parser = argparse.ArgumentParser()
    add_axes(parser.add_argument)
    selection = Selection.from_args(parser.parse_args(["--device=xpu", "--batch=7"]))
    assert selection.device == ("xpu",)
    matmul = replace(get_kernel("matmul"), devices=(*DEVICE_TYPES, "xpu"))
    monkeypatch.setitem(KERNELS, "matmul", matmul)
    (entry,) = planned(replace(selection, operation=("gradient",), kernel=("matmul",)))
    outcome = predict(entry, None, 1.0)
    assert (outcome.status, outcome.reason) == ("unsupported", "no XPU device on this machine")
    assert benchmark_mark(entry.case).kwargs["timer"] == DEVICES["xpu"].clock
