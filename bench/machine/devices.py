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

from mlr.checks import DEVICE_TYPES, as_dtype

from ..common.garbage import gc_paused
from .device_memory import Allocations, count_allocations, growth_outside_torch
from .device_time import device_seconds
from .eviction import INSTRUCTIONS, evict

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

    def load(self) -> dict[str, Any]:
        """Return the columns of an accelerator's clock and throttling, where it tells."""
        return {}


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
    working_sets = tuple(4**power * 1024 for power in range(5, 12))  # 1 MiB to 4 GiB
    gemm_sizes = (4096, 8192)

    def __init__(self, name: str) -> None:
        self.name = name
        self._loaded = set[str]()  # the dtypes that its libraries are loaded for

    def cache_bytes(self) -> list[int]:
        """Return the size of the last cache."""
        properties = torch.get_device_module(self.name).get_device_properties(self.name)
        return [getattr(properties, "L2_cache_size", LARGEST_CACHE_BYTES)]

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

    def load(self) -> dict[str, Any]:
        """Return a GPU's clock in MHz and whether it is throttled, by NVML: of NVIDIA's alone."""
        try:
            import pynvml as nvml

            nvml.nvmlInit()
            handle = nvml.nvmlDeviceGetHandleByIndex(0)
            mhz = float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        except Exception:  # no library, no driver, or a GPU that is shared and may not be asked
            return {}
        harmless = nvml.nvmlClocksThrottleReasonGpuIdle | nvml.nvmlClocksThrottleReasonNone
        harmless |= nvml.nvmlClocksThrottleReasonApplicationsClocksSetting
        return {"gpu_mhz": mhz, "gpu_throttled": bool(reasons & ~harmless)}


DEVICES = {name: Device() if name == "cpu" else Accelerator(name) for name in DEVICE_TYPES}


def device_of(device: str) -> Device:
    """Return the device type of a torch device's name, as `cpu` or `cuda`."""
    return DEVICES[device.partition(":")[0]]


def unavailable_reason(device: str) -> str | None:
    """Say why a device cannot be used here, or None if it can."""
    wanted, here = device_of(device), torch.accelerator.current_accelerator(check_available=True)
    if wanted.is_host or (here is not None and here.type == wanted.name):
        return None
    return f"no {wanted.name.upper()} device on this machine"


def accelerator_name() -> str | None:
    """Name the first accelerator of this machine, if there is one."""
    here = torch.accelerator.current_accelerator(check_available=True)
    if here is None or here.type not in DEVICES:
        return None
    return str(torch.get_device_module(here).get_device_name(0))
