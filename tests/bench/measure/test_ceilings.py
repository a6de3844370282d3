"""The probes of what a device can do at best, on small working sets."""

import math
from pathlib import Path
from time import perf_counter

import pytest
import torch

from bench.machine import host
from bench.machine.devices import DEVICES, Accelerator, Call, Device
from bench.measure import ceilings
from bench.measure.ceilings import (
    READ_BYTES,
    ROUNDS,
    bind_multiply_adds,
    bind_reading,
    measure_ceilings,
)
from bench.store.schema import Ceilings
from mlr.one_pass.compile import target


def test_every_working_set_that_fits_and_every_dtype_has_a_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Device, "working_sets", (2**14, 2**16, 2**40))
    monkeypatch.setattr(Device, "gemm_sizes", (32, 64))
    found = measure_ceilings("cpu")
    assert [size for size, _ in found.bandwidth_bytes_per_s] == [2**14, 2**16]
    assert all(1e7 < rate < 1e13 for _, rate in found.bandwidth_bytes_per_s)
    assert set(found.flops_per_s) == {"float32", "float64"}
    assert all(1e7 < rate < 1e15 for rate in found.flops_per_s.values())
    assert 1e-9 < found.dispatch_s < 1e-3
    assert found.last_cache_bytes == Device().cache_bytes()[-1]
    assert 1e7 < found.cold_bytes_per_s < 1e13
    monkeypatch.setattr(Device, "can_evict", False)
    assert measure_ceilings("cpu").cold_bytes_per_s is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_of_multiply_adds_that_are_really_done(dtype: str) -> None:
    """Each sum tends to s = s/2 + 1 = 2, in as many rounds as are counted."""
    bound = bind_multiply_adds(dtype)
    bound.call()
    sums = bound.work // (2 * ROUNDS * bound.totals.numel())
    assert bound.work == 2 * ROUNDS * sums * bound.totals.numel() > 0
    assert (bound.totals == 2 * sums).all()


TURN = 24 * 64 // 8  # numbers: as many as the loop takes at once, of the longest vectors


def read(
    memory: torch.Tensor, ahead: bool = False, least_bytes: int = READ_BYTES
) -> tuple[float, float]:
    """Return the sum of what a call reads, without what its sums begin with, and its bytes."""
    reading = bind_reading(memory, ahead, least_bytes)
    reading.call()
    total = float(reading.totals.sum())
    memory = torch.zeros_like(memory)
    nothing = bind_reading(memory, ahead, least_bytes)
    nothing.call()
    return total - float(nothing.totals.sum()), reading.work


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_rate_is_of_numbers_that_are_all_read(
    ahead: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever number is another, the sum is: no part, line or lane is left out, or read twice."""
    monkeypatch.setattr(ceilings, "READ_BYTES", 4 * 2 * TURN * 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    memory = torch.zeros(threads * 2 * TURN, dtype=torch.float64)
    for place in range(0, len(memory), 1 if threads == 1 else 7):
        memory[place] = place + 1.0
        total, work = read(memory, ahead, 4 * 2 * TURN * 8)
        assert work == 4 * memory.nbytes
        assert total == 4 * (place + 1.0)
        memory[place] = 0.0


def test_what_is_no_whole_turn_is_neither_read_nor_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    turns = 2 * TURN * 8 // (ceilings._sums() * target().vector_bytes)
    whole = turns * ceilings._sums() * target().vector_bytes // 8
    memory = torch.full((whole + 7,), math.nan, dtype=torch.float64)
    memory[:whole] = 1.0
    total, work = read(memory)
    assert total == work / 8 == work // (8 * whole) * whole


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(host, "CACHES", tmp_path)
    return tmp_path


def test_working_sets_are_on_both_sides_of_each_cache(caches: Path) -> None:
    levels = (("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"),
              ("3", "Unified", "32768K"))  # fmt: skip
    for number, (level, kind, size) in enumerate(levels):
        folder = caches / f"index{number}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    device, kib = Device(), 1024
    assert device.cache_bytes() == [48 * kib, 2048 * kib, 32768 * kib]
    sizes = (24, 96, 1024, 4096, 16384, 24576, 32768, 65536, 131072)
    assert device.working_sets == tuple(size * kib for size in sizes)


@pytest.mark.parametrize("files", [{}, {"type": "Data"}, {"type": "Data", "size": "0K"},
                                   {"type": "Data", "size": "many"}])  # fmt: skip
def test_unknown_caches_are_taken_for_usual_ones(files: dict[str, str], caches: Path) -> None:
    for name, text in files.items():
        (caches / "index0").mkdir(exist_ok=True)
        (caches / "index0" / name).write_text(text)
    assert Device().cache_bytes()[-1] == Ceilings().last_cache_bytes
    assert len(Device().working_sets) == 9


GIB, MIB = 2**30, 2**20


def test_a_gpu_is_measured_below_at_and_above_its_last_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of an H100 has 50 MB: a step of 36 MB stays in it, and comes at another rate."""
    monkeypatch.setattr(Accelerator, "cache_bytes", lambda self: [50 * MIB])
    sizes = Accelerator("cuda").working_sets
    assert sizes == tuple(sorted(sizes))
    assert sizes[0] == MIB
    assert sizes[-1] == 4 * GIB
    around = {25 * MIB, 37.5 * MIB, 50 * MIB, 100 * MIB}
    assert {size for size in sizes if 16 * MIB < size < 256 * MIB} - {64 * MIB} == around
    assert all(size % 4096 == 0 for size in sizes)
    below = [size for size in sizes if size <= 36_000_000]
    assert max(below) == 25 * MIB


class FakeAccelerator(Accelerator):
    """An accelerator that is the processor."""

    clock = staticmethod(perf_counter)  # type: ignore[assignment]
    working_sets = (2**14, 2**16, 2**18)  # type: ignore[assignment]
    gemm_sizes = (16, 32)
    free = 2**20

    def free_bytes(self) -> int:
        return self.free

    def cache_bytes(self) -> list[int]:
        return [2**16]

    def least_calls(self) -> list[Call]:
        return [lambda: None]


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> FakeAccelerator:
    fake = FakeAccelerator("cpu")
    monkeypatch.setitem(DEVICES, "cpu", fake)
    return fake


def test_an_accelerator_has_a_peak_of_each_dtype_and_its_cheapest_call(
    accelerated: FakeAccelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, replay = (lambda: None), (lambda: None)
    monkeypatch.setattr(FakeAccelerator, "least_calls", lambda self: [launch, replay])
    seconds = {launch: 3e-6, replay: 2e-6}
    monkeypatch.setattr(ceilings, "seconds_per_call", lambda call, _: seconds.get(call, 1e-3))
    found = measure_ceilings("cpu")
    assert found.dispatch_s == 2e-6
    expected = dict.fromkeys(("float16", "bfloat16", "float32", "float64"), 2 * 32**3 / 1e-3)
    assert found.flops_per_s == expected
    assert [size for size, _ in found.bandwidth_bytes_per_s] == [2**14, 2**16, 2**18]


@pytest.mark.parametrize(
    ("free", "sets", "dtypes"),
    [
        (0, [], set()),
        (2**16, [2**14], {"float16", "bfloat16", "float32", "float64"}),
        (4 * 2 * 16**2 + 4 * 2, [], {"float16", "bfloat16"}),
    ],
)
def test_where_little_memory_is_free_what_does_not_fit_is_left_out(
    free: int, sets: list[int], dtypes: set[str], accelerated: FakeAccelerator
) -> None:
    accelerated.free = free
    found = measure_ceilings("cpu")
    assert [size for size, _ in found.bandwidth_bytes_per_s] == sets
    assert set(found.flops_per_s) == dtypes
    assert found.roofline("float32", 10**6, 10**6, 10**6).hot_s >= found.dispatch_s


def test_what_is_read_of_an_accelerators_memory_is_what_is_counted(
    accelerated: FakeAccelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is taken off for a launch: launches overlap."""
    monkeypatch.setattr(ceilings, "seconds_per_call", lambda call, device: call() is None or 1e-6)
    memory = torch.ones(64, dtype=torch.float64)
    assert ceilings._read_rate(memory) == 2 * memory.nbytes / 1e-6


@pytest.mark.cuda
def test_a_gpu_reaches_its_ceilings() -> None:
    found = measure_ceilings("cuda")
    assert set(found.flops_per_s) == {"float16", "bfloat16", "float32", "float64"}
    assert found.flops_per_s["bfloat16"] > 2 * found.flops_per_s["float32"]  # by tensor cores
    assert found.dispatch_s is not None
    assert found.dispatch_s < 1e-4
    rates = dict(found.bandwidth_bytes_per_s)
    assert max(rates) == 4 * GIB
    assert max(rates.values()) >= rates[4 * GIB]  # a cache is not slower than the memory
