"""The types of device: each one's clock, memory, timers, limits of its probes, and load.

All else asks `device_of`. Another type is a further name in `mlr.checks.DEVICE_TYPES`; it needs a
class here only where `torch.accelerator` does not serve it as it is.
"""

import ctypes
import gc
import platform
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from pathlib import Path
from time import perf_counter  # bound before any user's kernel could put another in its place
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mlr.checks import DEVICE_TYPES, DTYPE_NAMES, as_dtype
from mlr.cuda_graphs import capture

from ..common.garbage import gc_paused
from .device_memory import Allocations, count_allocations, growth_outside_torch
from .device_time import device_seconds
from .eviction import INSTRUCTIONS, evict
from .nvml import Gpu, find_gpu

Call = Callable[[], Any]
LARGEST_CACHE_BYTES = 2**26  # of an accelerator that does not say how large its last cache is
CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
OBJECTS_BYTES = 256 * 1024  # Python's own objects in a call of torch stay below this
RESIDENT_BYTES = 4 * 2**20  # what counters of pages and torch's buffers of threads can be off by


class Device:
    """What the suite asks of a type of device; as it stands, the host's, which calls all others."""

    name = "cpu"  # as torch names it
    is_host = True  # no launch, no wait, and nothing that libraries keep from their first use on
    dtypes: tuple[str, ...] = ("float32", "float64")  # of which the rate of products is probed
    gemm_sizes: tuple[int, ...] = (512, 1024)  # sides of the square products that are probed
    formula_slack_bytes = 4_096  # scalars that torch wraps
    can_evict = platform.machine() in INSTRUCTIONS  # whether inputs can be made cold
    clock = staticmethod(perf_counter)  # in seconds

    @property
    def working_sets(self) -> tuple[int, ...]:
        """The bytes over which a bandwidth is measured: half and twice each cache, and 4 × last."""
        caches = self.cache_bytes()
        sizes = {4 * caches[-1], *(size * by // 2 for size in caches for by in (1, 4))}
        return tuple(sorted(sizes))

    def cache_bytes(self) -> list[int]:
        """Return the size of each cache for data, the last one last; usual ones where unknown."""
        kib = [0]
        with suppress(OSError, ValueError):
            levels = [level for level in sorted(CACHES.glob("index*"))
                      if "Instruction" not in (level / "type").read_text()]  # fmt: skip
            kib = [int((level / "size").read_text().strip(" K\n")) for level in levels]
        return [1024 * size for size in kib] if all(kib) and kib else [2**15, 2**20, 2**25]

    def least_calls(self) -> list[Call]:
        """Return calls that do next to nothing: none is made in less time than the cheapest.

        On the host that is one of a function in C, which a compiled kernel may be.
        """
        return [gc.isenabled]

    def free_bytes(self) -> int:
        """Return the memory that can be had without swapping, in bytes."""
        return int(psutil.virtual_memory().available)

    def load_libraries(self, dtype: str) -> None:
        """Have an accelerator's libraries load what a product and a derivative of a dtype take."""

    def release_memory(self) -> bool:
        """Free what a failed benchmark held; False where this process has lost the device."""
        gc.collect()
        return True

    def allocations(self, call: Call) -> Allocations:
        """Call once and return what torch's allocator gave meanwhile, exact to the byte."""
        changes = (event.nbytes() for event in traced_events(call) if event.name() == "[memory]")
        held = list(accumulate(changes, initial=0))
        return Allocations(held[-1], max(held))

    def untracked_bytes(self, call: Call, tracked: int) -> int:
        """Return the bytes that a call is seen to hold beyond the `tracked` ones of torch, or 0.

        Python's tracemalloc sees NumPy and all of Python, the growth of the resident set C and
        Numba, from about 4 MiB on.
        """
        traced, resident = self.python_bytes(call), _resident_growth(call) - tracked
        return max(
            traced if traced > OBJECTS_BYTES else 0,
            resident if resident > RESIDENT_BYTES + tracked // 10 else 0,
        )

    def python_bytes(self, call: Call) -> int:
        """Return the most bytes that a call holds of Python's allocators and NumPy's."""
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def evictor(self, tensors: Sequence[Tensor]) -> Call:
        """Return what evicts tensors from all caches."""
        return partial(evict, tensors)

    def reset_persisting_lines(self) -> bool | None:
        """Let go what a kernel asked an accelerator's cache to keep; say whether that was done."""
        return None

    def device_time(self, calls: Sequence[Call], prepare: Call = lambda: None) -> float | None:
        """Return the seconds that a warm call keeps a device busy, as `device_seconds` does."""
        return None

    def load(self, busy: Call = lambda: None) -> dict[str, Any]:
        """Return how an accelerator is while it does what a call has queued; see `nvml.Gpu.load`.

        And `gpu_other_bytes`: its memory in use beyond what torch holds in this process, whose
        context and libraries are part of it.
        """
        return {}

    def gpu(self) -> Gpu | None:
        """Return a GPU of NVIDIA's to ask of its clocks and settings; None if there is no asking.

        It is the first that this process sees: with `CUDA_VISIBLE_DEVICES` not the machine's.
        """
        return None


def traced_events(call: Call) -> list[Any]:
    """Call once and return torch's operators, and its allocations `[memory]`, in their order."""
    with gc_paused(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    return sorted(trace.profiler.kineto_results.events(), key=lambda event: event.start_ns())


def _resident_growth(call: Call) -> int:
    if not CLEAR_REFS.exists():
        return 0
    ctypes.CDLL(None).malloc_trim(0)  # or the call would be served from what was freed before
    with gc_paused():
        CLEAR_REFS.write_text("5")  # the high-water mark starts again from what is resident now
        before = _status_bytes("VmRSS")
        call()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    line = next(one for one in STATUS.read_text().splitlines() if one.startswith(name))
    return int(line.split()[1]) * 1024


class Accelerator(Device):
    """A device that `torch.accelerator` drives: a call returns before its work is done."""

    is_host = False
    can_evict = True
    dtypes = DTYPE_NAMES
    gemm_sizes = (4096, 8192)

    def __init__(self, name: str) -> None:
        self.name = name
        self._loaded = set[str]()  # the dtypes that its libraries are loaded for

    def cache_bytes(self) -> list[int]:
        """Return the size of the last cache."""
        properties = torch.get_device_module(self.name).get_device_properties(self.name)
        return [getattr(properties, "L2_cache_size", LARGEST_CACHE_BYTES)]

    @property
    def working_sets(self) -> tuple[int, ...]:
        """The bytes over which a bandwidth is measured: 1 MiB to 4 GiB, closer by the last cache.

        A half, three quarters, all and twice of it: what is in it comes the slower, the fuller it
        is, and a case is held against the rate of the largest set that is not above its own.
        """
        around = [self.cache_bytes()[-1] * part // 4 for part in (2, 3, 4, 8)]
        powers = [4**power * 1024 for power in range(5, 12)]
        return tuple(sorted({size // 4096 * 4096 for size in (*around, *powers)}))

    def least_calls(self) -> list[Call]:
        """Return a call of torch, a bare launch, and the replay of a graph of one operator."""
        module, number = torch.get_device_module(self.name), torch.zeros(1, device=self.name)
        calls: list[Call] = [number.neg_]
        if hasattr(module, "_sleep"):
            calls.append(partial(module._sleep, 0))
        if hasattr(module, "CUDAGraph"):
            calls.append(capture(number.neg_))
        return calls

    def clock(self) -> float:
        """Read the host clock once the device is idle: launches in between still overlap."""
        torch.accelerator.synchronize()
        return perf_counter()

    def free_bytes(self) -> int:
        """Return what is free, and what torch holds without using it."""
        memory = torch.accelerator
        return memory.get_memory_info()[0] + memory.memory_reserved() - memory.memory_allocated()

    def load_libraries(self, dtype: str) -> None:
        """Compute two products and their derivatives in a dtype, once in this process.

        cuBLAS keeps a workspace for each thread that multiplies, 32 MiB on an H100, and a driver
        loads code on its first use: neither is the time or the memory of one kernel's first call.
        """
        if dtype in self._loaded:
            return
        self._loaded.add(dtype)
        ones = torch.ones(2, 2, dtype=as_dtype(dtype), device=self.name, requires_grad=True)
        (torch.addmm(ones[0], ones, ones) @ ones).sum().backward()
        torch.accelerator.synchronize()

    def release_memory(self) -> bool:
        """Free what a failed benchmark held; False where this process has lost the device.

        After an illegal access all that a process asks of CUDA fails, until it ends.
        """
        gc.collect()
        try:
            torch.accelerator.synchronize()
            torch.accelerator.empty_cache()
        except RuntimeError:
            return False
        return True

    def allocations(self, call: Call) -> Allocations:
        """Call once and return what torch's allocator was asked for, as `count_allocations`."""
        return count_allocations(call, torch.get_device_module(self.name))

    def untracked_bytes(self, call: Call, tracked: int) -> int:
        """Return the bytes beyond torch's that a call still holds, as `growth_outside_torch`."""
        return growth_outside_torch(call)

    def evictor(self, tensors: Sequence[Tensor]) -> Call:
        """Return what fills the last cache with other data, by reading three times its size.

        Parameters and code go with the tensors. Reading leaves no lines that a later call would
        have to write back. Beyond its L2, AMD's MI300 has a cache of 256 MB that stays warm.
        """
        other = torch.zeros(3 * self.cache_bytes()[-1] // 4, device=self.name)

        def read_other() -> None:
            torch.accelerator.synchronize()
            self.reset_persisting_lines()
            other.sum()

        return read_other

    def reset_persisting_lines(self) -> bool:
        """Let go what a kernel asked the L2 cache to keep: by NVIDIA's driver, or not at all."""
        try:
            return bool(ctypes.CDLL("libcuda.so.1").cuCtxResetPersistingL2Cache() == 0)
        except (OSError, AttributeError):  # another vendor's, or older than CUDA 11
            return False

    def device_time(self, calls: Sequence[Call], prepare: Call = lambda: None) -> float | None:
        """Return the seconds that a warm call keeps the device busy, as `device_seconds` does."""
        return device_seconds(calls, torch.get_device_module(self.name), prepare)

    def load(self, busy: Call = lambda: None) -> dict[str, Any]:
        """Return how the device is while it does what a call has queued."""
        free, total = torch.accelerator.get_memory_info()
        other_bytes = total - free - torch.accelerator.memory_reserved()
        busy()
        found = gpu.load() if (gpu := self.gpu()) else {}
        torch.accelerator.synchronize()
        return {**found, "gpu_other_bytes": max(0, other_bytes)}

    def gpu(self) -> Gpu | None:
        """Return the GPU, by the identity that torch gives of it, if NVML knows it."""
        properties = torch.get_device_module(self.name).get_device_properties(self.name)
        return find_gpu(str(getattr(properties, "uuid", "")))


DEVICES = {name: Device() if name == "cpu" else Accelerator(name) for name in DEVICE_TYPES}


def device_of(device: str) -> Device:
    """Return the device type of a torch device's name, as `cpu` or `cuda`."""
    return DEVICES[device.partition(":")[0]]


def unavailable_reason(device: str) -> str | None:
    """Say why a device cannot be used here, or None if it can."""
    wanted, built = device_of(device), torch.accelerator.current_accelerator()
    if wanted.is_host or wanted is accelerator():
        return None
    if built is None or built.type != wanted.name:
        return f"torch {torch.__version__} is built without {wanted.name.upper()}"
    return f"the driver shows no {wanted.name.upper()} device"


def accelerator() -> Device | None:
    """Return the type of this machine's accelerators, if it has any."""
    here = torch.accelerator.current_accelerator(check_available=True)
    return None if here is None else DEVICES.get(here.type)


def accelerator_name() -> str | None:
    """Name the first accelerator of this machine, if there is one."""
    here = accelerator()
    return None if here is None else str(torch.get_device_module(here.name).get_device_name(0))
