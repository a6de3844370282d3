"""Device types: the clock of an accelerator that runs behind the host, and a new type."""

import argparse
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from fake_stream import FakeCache, FakeStream, install_stream

from bench.machine import devices
from bench.machine.devices import DEVICES, Accelerator, Device, device_of
from bench.measure.ratio import paired_ratio
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
        built_without = f"torch {torch.__version__} is built without {name.upper()}"
        assert reason in (None, built_without, f"the driver shows no {name.upper()} device")
    assert devices.unavailable_reason("cpu") is None
    assert (devices.accelerator_name() is None) == (not torch.accelerator.is_available())
    assert tuple(DEVICES) == DEVICE_TYPES


@pytest.mark.parametrize(
    ("built", "available", "reason"),
    [
        ("cuda", True, None),
        ("cuda", False, "the driver shows no CUDA device"),
        (None, False, f"torch {torch.__version__} is built without CUDA"),
        ("xpu", True, f"torch {torch.__version__} is built without CUDA"),
    ],
)
def test_what_is_missing_of_an_absent_device_is_told_apart(
    built: str | None, available: bool, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def current(check_available: bool = False) -> torch.device | None:
        there = built is not None and (available or not check_available)
        return torch.device(built) if there and built else None

    monkeypatch.setattr(torch.accelerator, "current_accelerator", current)
    assert devices.unavailable_reason("cuda") == reason
    assert devices.unavailable_reason("cpu") is None


def test_the_cheapest_calls_are_a_bare_launch_and_a_replay_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    module = SimpleNamespace(CUDAGraph=None, _sleep=asked.append)
    monkeypatch.setattr(torch, "get_device_module", lambda name: module)
    monkeypatch.setattr(devices, "capture", lambda step: lambda: asked.append("replay"))
    for call in Accelerator("cpu").least_calls():
        call()
    assert asked == [0, "replay"]
    monkeypatch.setattr(torch, "get_device_module", lambda name: SimpleNamespace())
    assert len(Accelerator("cpu").least_calls()) == 1


def test_the_load_of_an_accelerator_is_asked_while_it_is_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    gpu = SimpleNamespace(load=lambda: asked.append("clock") or {"gpu_mhz": 1_980.0})
    monkeypatch.setattr(Accelerator, "gpu", lambda self: gpu)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda: (60, 100))
    monkeypatch.setattr(torch.accelerator, "memory_reserved", lambda: 15)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: asked.append("idle"))
    found = Accelerator("cuda").load(lambda: asked.append("calls"))
    assert found == {"gpu_mhz": 1_980.0, "gpu_other_bytes": 25}
    assert asked == ["calls", "clock", "idle"]
    assert Device().load(lambda: asked.append("never")) == {}
    assert len(asked) == 3


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
    reason = f"torch {torch.__version__} is built without XPU"
    assert (outcome.status, outcome.reason) == ("unsupported", reason)
    assert benchmark_mark(entry.case).kwargs["timer"] == DEVICES["xpu"].clock


def test_a_gpu_is_known_by_the_identity_that_torch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place on the bus is not that among the devices that this process may see."""
    properties = SimpleNamespace(uuid="1b5a-3c")
    module = SimpleNamespace(get_device_properties=lambda name: properties)
    monkeypatch.setattr(torch, "get_device_module", lambda name: module)
    monkeypatch.setattr(devices, "find_gpu", lambda uuid: f"GPU of {uuid}")
    assert str(Accelerator("cuda").gpu()) == "GPU of 1b5a-3c"
    assert Device().gpu() is None
