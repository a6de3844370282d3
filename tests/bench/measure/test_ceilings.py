"""The probes of what a device can do at best, on small working sets."""

import math
from pathlib import Path

import pytest
import torch

from bench.machine import devices
from bench.machine.devices import Device
from bench.measure import ceilings
from bench.measure.ceilings import (
    ROUNDS,
    bind_multiply_adds,
    bind_reading,
    measure_ceilings,
)
from bench.store.schema import Ceilings
from mlr.one_pass.compile import vector_bytes


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_of_multiply_adds_that_are_really_done(dtype: str) -> None:
    """Each sum tends to s = s/2 + 1 = 2, in as many rounds as are counted."""
    bound = bind_multiply_adds(dtype)
    bound.call()
    sums = bound.work // (2 * ROUNDS * bound.totals.numel())
    assert bound.work == 2 * ROUNDS * sums * bound.totals.numel() > 0
    assert (bound.totals == 2 * sums).all()


TURN = 24 * 64 // 8  # numbers: as many as the loop takes at once, of the longest vectors


def read(memory: torch.Tensor, ahead: bool = False) -> tuple[float, float]:
    """Return the sum of what a call reads, without what its sums begin with, and its bytes."""
    reading = bind_reading(memory, ahead)
    reading.call()
    total = float(reading.totals.sum())
    memory = torch.zeros_like(memory)
    nothing = bind_reading(memory, ahead)
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
        total, work = read(memory, ahead)
        assert work == 4 * memory.nbytes
        assert total == 4 * (place + 1.0)
        memory[place] = 0.0


def test_what_is_no_whole_turn_is_neither_read_nor_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    turns = 2 * TURN * 8 // (ceilings._sums() * vector_bytes())
    whole = turns * ceilings._sums() * vector_bytes() // 8
    memory = torch.full((whole + 7,), math.nan, dtype=torch.float64)
    memory[:whole] = 1.0
    total, work = read(memory)
    assert total == work / 8 == work // (8 * whole) * whole


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(devices, "CACHES", tmp_path)
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
    sizes = (24, 96, 1024, 4096, 16384, 65536, 131072)
    assert device.working_sets == tuple(size * kib for size in sizes)


@pytest.mark.parametrize("files", [{}, {"type": "Data"}, {"type": "Data", "size": "0K"},
                                   {"type": "Data", "size": "many"}])  # fmt: skip
def test_unknown_caches_are_taken_for_usual_ones(files: dict[str, str], caches: Path) -> None:
    for name, text in files.items():
        (caches / "index0").mkdir(exist_ok=True)
        (caches / "index0" / name).write_text(text)
    assert Device().cache_bytes()[-1] == Ceilings().last_cache_bytes
    assert len(Device().working_sets) == 7
