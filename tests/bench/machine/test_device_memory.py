"""The memory of an accelerator, which a fake allocator counts as torch's does, and its end."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.machine.devices import DEVICES, Accelerator, Device
from bench.measure.memory import Memory, measure_memory
from bench.measure.timing import first_call
from mlr import Case, Problem, get_kernel

CASE = Case("gradient", "cpu", "float64", 3, 2, 2)
BLOCK = 512
ILLEGAL = "CUDA error: an illegal memory access was encountered"


class FakeAllocator:
    """Counts what is asked for and the blocks it takes, and knows pools and the device's rest."""

    def __init__(self) -> None:
        self.asked, self.most = 10_000, 10_000  # the inputs
        self.reserved, self.free = 2**21, 2**30
        self.pools: list[dict[str, Any]] = [{"segment_pool_id": (0, 0), "address": 1}]
        self.emptied = 0

    def allocate(self, kept: int, most: int) -> None:
        self.most, self.asked = max(self.most, self.asked + most), self.asked + kept

    def statistics(self) -> dict[str, int]:
        found = {"current": self.asked, "peak": self.most}
        blocks = {f"allocated_bytes.all.{one}": -(-n // BLOCK) * BLOCK for one, n in found.items()}
        return {f"requested_bytes.all.{one}": n for one, n in found.items()} | blocks

    def reset(self) -> None:
        self.most = self.asked

    def empty(self) -> None:
        self.emptied += 1


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> FakeAllocator:
    """An accelerator in the place of the CPU, so that problems can be drawn on it."""
    fake = FakeAllocator()
    for name, function in {
        "synchronize": lambda: None,
        "memory_stats": fake.statistics,
        "reset_peak_memory_stats": fake.reset,
        "get_memory_info": lambda: (fake.free, 2**40),
        "memory_reserved": lambda: fake.reserved,
        "empty_cache": fake.empty,
    }.items():
        monkeypatch.setattr(torch.accelerator, name, function)
    monkeypatch.setattr(torch.cpu, "memory_snapshot", lambda: list(fake.pools), raising=False)
    monkeypatch.setitem(DEVICES, "cpu", Accelerator("cpu"))
    return fake


class Planted(NamedTuple):
    """As much of a kernel as is asked: what it does when it is bound, and in each call."""

    binds: Callable[[], object] = lambda: None
    calls: Callable[[], object] = lambda: None

    def bind(self, problem: Problem) -> Callable[[], object]:
        self.binds()
        return self.calls


def measured(kernel: Any) -> Memory:
    return measure_memory(kernel, CASE)


def test_peak_and_leak_are_what_was_asked_for_and_no_workspace(memory: FakeAllocator) -> None:
    """The library keeps one from its first call on, of which the later ones know nothing."""
    first = iter([(2**25, 2**25)])
    found = measured(
        Planted(
            lambda: memory.allocate(64, 64),
            lambda: memory.allocate(*next(first, (1_000, 5_000))),
        )
    )
    assert found == Memory(5_064, 1_000, 0)


def test_an_allocator_that_does_not_count_what_it_is_asked_for_counts_its_blocks(
    memory: FakeAllocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocks() -> dict[str, int]:
        return {n: v * ("allocated" in n) for n, v in memory.statistics().items()}

    memory.asked = 0
    monkeypatch.setattr(torch.accelerator, "memory_stats", blocks)
    assert measured(Planted(calls=lambda: memory.allocate(0, 5_000))).peak_bytes == 10 * BLOCK


def test_a_graph_whose_replay_allocates_nothing_holds_what_its_capture_did(
    memory: FakeAllocator,
) -> None:
    def capture() -> None:
        memory.allocate(24, 700)
        number = len(memory.pools)
        memory.pools.append({"segment_pool_id": (0, number), "address": number + 1})

    assert measured(Planted(capture)) == Memory(700, 0, 0)
    assert measured(Planted(lambda: memory.allocate(24, 700))) == Memory(24, 0, 0)


def test_what_binding_and_a_call_hold_outside_torch_is_seen(memory: FakeAllocator) -> None:
    def take(*sizes: int) -> Callable[[], None]:
        left = iter(sizes)

        def one() -> None:
            memory.free -= next(left, 0)

        return one

    def torchs_own() -> None:
        memory.free -= 2**21
        memory.reserved += 2**21

    assert measured(Planted(take(2**22, 2**22), take(2**21, 2**20))).untracked_bytes == 5 * 2**20
    assert measured(Planted(torchs_own)).untracked_bytes == 0
    assert measured(Planted(take(2**30))).untracked_bytes == 0  # another process's, and once


@pytest.mark.parametrize("reported", [1_234, None])
def test_of_a_library_that_allocates_outside_torch_its_own_account_counts_there_too(
    reported: int | None, memory: FakeAllocator
) -> None:
    def bind(problem: Problem) -> Callable[[], None]:
        def step() -> None: ...

        if reported is not None:
            vars(step)["peak_bytes"] = reported
        return step

    kernel = replace(get_kernel("fused_addmm"), function=bind, allocates_outside_torch=True)
    case = replace(CASE, operation="step")
    assert measure_memory(kernel, case) == Memory(reported, 0, 0)


@pytest.mark.usefixtures("memory")
def test_libraries_are_loaded_once_a_dtype_before_anything_is_weighed_or_timed() -> None:
    with FlopCounterMode(display=False) as counter:
        done: list[int] = []

        def bind(_: Problem) -> Callable[[], None]:
            done.append(counter.get_total_flops())
            return lambda: None

        for use in (lambda case: first_call(bind, Problem(case)), lambda _: measured(Planted())):
            DEVICES["cpu"] = Accelerator("cpu")
            before = counter.get_total_flops()
            use(CASE)
            loaded = counter.get_total_flops()
            assert loaded > before
            use(CASE)
            assert counter.get_total_flops() == loaded
        first_call(bind, Problem(replace(CASE, dtype="float32")))
    assert 0 < done[0] == done[1]
    assert done[2] > loaded


def test_a_failure_leaves_no_memory_behind_unless_the_device_is_lost(
    memory: FakeAllocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Accelerator("cpu")
    assert device.release_memory()
    assert memory.emptied == 1

    def fails() -> None:
        raise torch.cuda.AcceleratorError(ILLEGAL)

    monkeypatch.setattr(torch.accelerator, "synchronize", fails)
    assert not device.release_memory()
    cycle: list[Any] = [torch.empty(1)]  # as an error and the frame that it was raised in
    cycle.append(cycle)
    held = weakref.ref(cycle[0])
    del cycle
    assert Device().release_memory()
    assert held() is None
