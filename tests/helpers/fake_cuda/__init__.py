"""A CUDA device that is the CPU: what asks for `cuda` runs on a machine without a GPU.

Tensors "on cuda" are tensors of the host, and a call has done its work when it returns. `install`
answers what is asked of `torch.cuda` and `torch.accelerator`; what `run_module` runs, and all that
that starts, has the device from its start on. It is true to these things, which matter:

* Memory is counted by torch's own profiler, to the byte, from `reset_peak_memory_stats` until the
  peak is read. A tensor that is made larger than the device raises `torch.OutOfMemoryError`.
* A graph keeps the addresses of what it was captured with, and not the memory. Its replay makes the
  same operators, and launches of Triton's interpreter, on these addresses.
* An access to memory that was freed loses the context: from then on every call of torch in this
  process fails, as after an illegal access on a GPU.
* Events lie on the host's clock, which the device is behind by what `_sleep` was given.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from paths import HELPERS, ROOT
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .context import ILLEGAL, STATE, lose_context, require_context
from .graphs import CUDAGraph, graph, record_triton
from .memory import Memory

__all__ = ["ENVIRONMENT", "ILLEGAL", "PROPERTIES", "install", "lose_context", "run_module"]

TOTAL_BYTES, FREE_BYTES = 2**28, 2**27
CYCLES_PER_S = 1e9
DEVICES = 4
_PATHS = HELPERS / "fake_cuda" / "start", HELPERS, ROOT
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(map(str, _PATHS)), "TRITON_INTERPRET": "1"}
PROPERTIES = SimpleNamespace(
    name="NVIDIA Fake", major=9, minor=0, multi_processor_count=2, L2_cache_size=2**20,
    total_memory=TOTAL_BYTES, warp_size=32, shared_memory_per_block_optin=232_448,
    clock_rate=1_000_000, uuid="00000000-0000-0000-0000-000000000000",
)  # fmt: skip


def run_module(*arguments: str, triton: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a module as after `python -m`, with the device in it and in all that it starts.

    Triton's interpreter, which takes a second to be imported, is there only where it is asked for.
    """
    interpret = {} if triton else {"TRITON_INTERPRET": "0"}
    command, env = [sys.executable, "-m", *arguments], os.environ | ENVIRONMENT | interpret
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def is_cuda(device: Any) -> bool:
    return isinstance(device, (str, torch.device)) and torch.device(device).type == "cuda"


class OnHost(TorchFunctionMode):
    """Makes on the host what is asked for on `cuda`."""

    SIZED = ("empty", "zeros", "ones", "full", "new_empty", "new_zeros", "new_ones", "new_full")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, its device exchanged."""
        require_context()
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        if name in ("cuda", "pin_memory"):
            return args[0]
        if name == "to" and len(args) > 1 and is_cuda(args[1]):
            args = (args[0], "cpu", *args[2:])
        if is_cuda(kwargs.get("device")):
            if name in self.SIZED:
                require_room(func(*args, **(kwargs | {"device": "meta"})))
            kwargs["device"] = "cpu"
        kwargs.pop("pin_memory", None)
        return func(*args, **kwargs)


def require_room(wanted: Tensor) -> None:
    if wanted.nbytes > TOTAL_BYTES:
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {wanted.nbytes} bytes")


class Event:
    """A moment of the device's."""

    def __init__(self, enable_timing: bool = False, **_: Any) -> None:
        self.at = 0.0

    def record(self, stream: Any = None) -> None:
        """Lie behind all that was asked of the device so far."""
        require_context()
        self.at = time.perf_counter() + STATE.behind_s

    def query(self) -> bool:
        """Say whether the device has come so far."""
        return time.perf_counter() >= self.at

    def synchronize(self) -> None:
        """Wait until it has."""
        time.sleep(max(0.0, self.at - time.perf_counter()))

    wait = record

    def elapsed_time(self, end: Event) -> float:
        """Return the milliseconds until another event."""
        return (end.at - self.at) * 1e3


class Stream:
    """One of the device's streams, which all do their work at once."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.device = torch.device("cuda", STATE.current)

    def wait_stream(self, other: Any = None) -> None:
        """Wait for what has ended already."""

    wait_event = synchronize = wait_stream

    def record_event(self, event: Event | None = None) -> Event:
        """Return an event behind all that was asked of the device so far."""
        event = event or Event()
        event.record()
        return event


def synchronize(device: Any = None) -> None:
    """Wait until the device has done all that it was asked."""
    require_context()
    if STATE.behind_s:  # to sleep for no time would let other processes run
        time.sleep(STATE.behind_s)
    STATE.behind_s = 0.0


def sleep(cycles: int) -> None:
    """Let the device be behind by so many more cycles."""
    STATE.behind_s += cycles / CYCLES_PER_S


def set_device(device: Any) -> None:
    """Make a device the current one."""
    STATE.current = device if isinstance(device, int) else (torch.device(device).index or 0)


def memory_info(device: Any = None) -> tuple[int, int]:
    """Return the bytes that are free and that there are, as if nothing of torch's counted."""
    require_context()
    return FREE_BYTES, TOTAL_BYTES


def install() -> None:
    """Put the device in the place of what this process has."""
    memory, default = Memory(), Stream()
    both: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: DEVICES,
        "synchronize": synchronize,
        "current_stream": lambda device=None: default,
        "empty_cache": lambda: None,
        "memory_stats": lambda device=None: memory.stats(),
        "memory_allocated": lambda device=None: memory.current(),
        "memory_reserved": lambda device=None: memory.current(),
        "max_memory_allocated": lambda device=None: memory.stats()["allocated_bytes.all.peak"],
        "max_memory_reserved": lambda device=None: memory.stats()["reserved_bytes.all.peak"],
        "reset_peak_memory_stats": lambda device=None: memory.reset(),
    }
    of_cuda: dict[str, Any] = {
        "is_initialized": lambda: True,
        "init": lambda: None,
        "current_device": lambda: STATE.current,
        "set_device": set_device,
        "get_device_name": lambda device=None: PROPERTIES.name,
        "get_device_properties": lambda device=None: PROPERTIES,
        "get_device_capability": lambda device=None: (PROPERTIES.major, PROPERTIES.minor),
        "mem_get_info": memory_info,
        "manual_seed_all": lambda seed: None,
        "memory_snapshot": lambda *_: [],
        "default_stream": lambda device=None: default,
        "stream": lambda stream: nullcontext(),
        "device": lambda device: nullcontext(),
        "is_current_stream_capturing": lambda: STATE.recorder is not None,
        "_sleep": sleep,
        "Event": Event,
        "Stream": Stream,
        "CUDAGraph": CUDAGraph,
        "graph": graph,
        "graph_pool_handle": lambda: (0, 1),
    }
    of_accelerator: dict[str, Any] = {
        "current_accelerator": lambda check_available=False: torch.device("cuda"),
        "current_device_index": lambda: STATE.current,
        "set_device_index": set_device,
        "device_index": lambda device: nullcontext(),
        "get_memory_info": memory_info,
    }
    for name, value in (both | of_cuda).items():
        setattr(torch.cuda, name, value)
    for name, value in (both | of_accelerator).items():
        setattr(torch.accelerator, name, value)
    Tensor.record_stream = lambda self, stream: None  # it takes streams of torch's own alone
    use_gloo_for_nccl()
    if os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton"):
        record_triton()
    OnHost().__enter__()


def use_gloo_for_nccl() -> None:
    """Let workers "on cuda" sum by gloo, whose operations can be waited for in the same way."""
    start = dist.init_process_group

    def started(backend: str, *, device_id: torch.device, **given: Any) -> None:
        assert (backend, device_id.type) == ("nccl", "cuda")
        start("gloo", **given)

    dist.init_process_group = started


def shorten_measuring() -> None:
    """Let the suite measure less: no time on this device means anything."""
    from bench.machine.devices import Accelerator
    from bench.measure import cold, paired, timing
    from bench.run import runner

    Accelerator.gemm_sizes = (64, 128)  # products that a CPU does at once
    Accelerator.working_sets = (2**20, 2**22)
    runner.MAX_RERUNS = 0
    cold.MOST_PROBLEMS, timing.DEVICE_CALLS, timing.FASTEST_S = 2, 4, 0.0
    paired.interleave.__kwdefaults__ |= {"blocks": 1}
    timing.fastest_call.__defaults__ = timing.warm_up.__defaults__ = (0.001,)
