"""The host as a type of device, and the table of all types; needs no torch to time a call.

What it asks of torch, of the system and of other types is imported where it is asked for: a process
that times functions which know nothing of torch starts in half the time without it.
"""

import ctypes
import gc
import os
import platform
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from pathlib import Path
from time import perf_counter  # bound before any user's kernel could put another in its place
from typing import TYPE_CHECKING, Any

from ..common.garbage import gc_paused

if TYPE_CHECKING:
    from torch import Tensor

    from .device_memory import Allocations
    from .nvml import Gpu

Call = Callable[[], Any]
CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
MAPS = Path("/proc/self/maps")
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
    clock = staticmethod(perf_counter)  # in seconds

    @property
    def can_evict(self) -> bool:
        """Whether inputs can be made cold."""
        from .eviction import INSTRUCTIONS

        return platform.machine() in INSTRUCTIONS

    @property
    def working_sets(self) -> tuple[int, ...]:
        """The bytes over which a bandwidth is measured: on both sides of each cache.

        Of the last one a half, three quarters, all, twice and four times: what is in it comes the
        slower, the fuller it is, and others may use it too.
        """
        *caches, last = self.cache_bytes()
        sizes = {size * by // 2 for size in caches for by in (1, 4)}
        return tuple(sorted(sizes | {last * by // 4 for by in (2, 3, 4, 8, 16)}))

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
        import psutil

        return int(psutil.virtual_memory().available)

    def load_libraries(self, dtype: str) -> None:
        """Have an accelerator's libraries load what a product and a derivative of a dtype take."""

    def release_memory(self) -> bool:
        """Free what a failed benchmark held; False where this process has lost the device."""
        gc.collect()
        return True

    def allocations(self, call: Call) -> "Allocations":
        """Call once and return what torch's allocator gave meanwhile, exact to the byte."""
        from .device_memory import Allocations, traced_events

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

    def evictor(self, tensors: "Sequence[Tensor]") -> Call:
        """Return what evicts tensors from all caches."""
        from .eviction import evict

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

    def gpu(self) -> "Gpu | None":
        """Return a GPU of NVIDIA's to ask of its clocks and settings; None if there is no asking.

        It is the first that this process sees: with `CUDA_VISIBLE_DEVICES` not the machine's.
        """
        return None


def loaded_code() -> set[Path]:
    """Return the files whose code is in this process's memory; none where the system has no list.

    They are programs and native libraries.
    """
    lines = os.fsdecode(MAPS.read_bytes()).splitlines() if MAPS.exists() else []
    parts = [line.split(maxsplit=5) for line in lines]  # address, rights, three more, and the file
    return {Path(one[5]) for one in parts if len(one) == 6 and "x" in one[1] and one[5][0] == "/"}


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


DEVICES = {"cpu": Device()}  # and, once `devices` is imported, all that torch drives


def device_of(device: str) -> Device:
    """Return the device type of a torch device's name, as `cpu` or `cuda`."""
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        from . import devices  # noqa: F401  # it enters the others in the table
    return DEVICES[kind]
