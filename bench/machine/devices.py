"""The types of device: each one's clock, memory, timers, limits of its probes, and load.

All else asks `device_of`. Another type is a further name in `mlr.checks.DEVICE_TYPES`; it needs a
class here only where `torch.accelerator` does not serve it as it is.
"""

import ctypes
import gc
from collections.abc import Sequence
from functools import partial
from time import perf_counter  # bound before any user's kernel could put another in its place
from typing import Any

import torch
from torch import Tensor

from mlr.checks import DEVICE_TYPES, DTYPE_NAMES, as_dtype
from mlr.cuda_graphs import capture

from .device_memory import Allocations, count_allocations, growth_outside_torch
from .device_time import device_seconds
from .host import DEVICES as DEVICES
from .host import Call as Call
from .host import Device as Device
from .host import device_of as device_of
from .nvml import Gpu, find_gpu

# Products of float32 in float32. TF32, which a container may have switched on by
# TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, keeps 10 bits of a number: every kernel would be wrong by it.
torch.set_float32_matmul_precision("highest")

LARGEST_CACHE_BYTES = 2**26  # of an accelerator that does not say how large its last cache is


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


DEVICES.update({name: Accelerator(name) for name in DEVICE_TYPES if name not in DEVICES})


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
