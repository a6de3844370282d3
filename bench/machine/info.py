"""What machine this is, how it is set, and what it can do at best, all found out here."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info

from mlr.case import DTYPES, Case
from mlr.compiled import bind_multiply_adds
from mlr.rule import current

from ..measure.timing import seconds_per_call

PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "pytest", "pytest-benchmark", "pandas", "matplotlib",
    "jaxtyping", "triton", "numba", "jax", "jaxlib",
)  # fmt: skip
ALLOCATOR_SETTINGS = (
    "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX",
    "LD_PRELOAD", "PYTORCH_CUDA_ALLOC_CONF",
)  # fmt: skip
CPU_WORKING_SETS = tuple(4**power * 1024 for power in range(2, 10))  # 16 KiB to 256 MiB
CUDA_WORKING_SETS = tuple(4**power * 1024 for power in range(5, 12))  # 1 MiB to 4 GiB
GEMM_SIZES = {"cpu": (512, 1024), "cuda": (4096, 8192)}


def absent(device: str) -> str | None:
    """Say why a device cannot be used here, or None if it can."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        return "no CUDA device on this machine"
    return None


@cache
def cpu_name() -> str:
    """Name the processor."""
    found = pytest_benchmark_generate_machine_info()["cpu"].get("brand_raw")
    return str(found or platform.processor() or "unknown cpu")


def gpu_name() -> str | None:
    """Name the first CUDA device, if there is one."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def machine_slug() -> str:
    """Return the folder name of this machine's runs: processor, cores and GPU."""
    name = f"{cpu_name()} {psutil.cpu_count(logical=True)}-core {gpu_name() or ''}"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")


def machine_info() -> dict[str, Any]:
    """Describe the machine, without its ceilings."""
    return {
        "slug": machine_slug(),
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": gpu_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def settings() -> dict[str, Any]:
    """Describe what the same machine can be set to, and was."""
    rule = current()
    return {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "omp_proc_bind": os.environ.get("OMP_PROC_BIND"),
        "omp_places": os.environ.get("OMP_PLACES"),
        "allocator": {name: os.environ[name] for name in ALLOCATOR_SETTINGS if name in os.environ},
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "flush_denormals": _flushes_denormals(),
        "gc_while_timing": False,
        "rule": {"cases": len(rule.fastest), "part_flops": rule.part_flops},
    }


def _flushes_denormals() -> bool:
    return float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0.0


def packages() -> dict[str, str]:
    """Return the versions of everything whose version can move a number."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"torch": torch.__version__}


def free_bytes(device: str) -> int:
    """Return the memory that is free on a device, in bytes."""
    if device.startswith("cuda"):
        cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + cached
    return int(psutil.virtual_memory().available)


def oom_kills() -> int:
    """Return how many processes the system has killed for want of memory; 0 where it is unknown."""
    found = 0
    for path in (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")):
        if path.exists():
            words = (line.split() for line in path.read_text().splitlines())
            found += sum(int(value) for name, value in words if name == "oom_kill")
    return found


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a device can do at best, as measured.

    Attributes:
        dispatch_s: Seconds of the cheapest call there is: on the CPU that of a foreign function,
            which a compiled kernel may be; on a GPU that of torch's cheapest kernel.
        bandwidth_bytes_per_s: Pairs of a working set in bytes and the higher rate of a copy (read
            and write counted) and a sum (read) over it.
        flops_per_s: By dtype, the rate of a square matrix product, or on the CPU that of
            multiply-adds on registers alone, which is higher but where a library's product is as
            good as it can be.
    """

    dispatch_s: float
    bandwidth_bytes_per_s: list[list[float]]
    flops_per_s: dict[str, float]

    def floor_s(self, case: Case, flops: int, bytes_moved: int) -> float:
        """Return the least seconds the device needs for so much work.

        max(FLOPs ÷ peak, bytes ÷ bandwidth, one dispatch). The bandwidth is the highest measured
        at a working set of that size or a larger one, so that the time is a lower bound.
        """
        rates = self.bandwidth_bytes_per_s
        fitting = [rate for size, rate in rates if size >= bytes_moved] or [rates[-1][1]]
        peak = self.flops_per_s.get(case.dtype, max(self.flops_per_s.values()))
        return max(flops / peak, bytes_moved / max(fitting), self.dispatch_s)


def measure_ceilings(device: str) -> Ceilings:
    """Measure what the device can do at best, in a few seconds."""
    kind = device.partition(":")[0]
    scalar = torch.zeros(1, device=device)
    torch_call = seconds_per_call(scalar.neg_, device)
    foreign = ctypes.pythonapi.Py_IsInitialized
    dispatch = torch_call if kind == "cuda" else seconds_per_call(foreign, device)
    working_sets = CUDA_WORKING_SETS if kind == "cuda" else CPU_WORKING_SETS
    return Ceilings(
        dispatch,
        [
            [size, _bandwidth(device, size, torch_call)]
            for size in working_sets
            if 2 * size < free_bytes(device)
        ],
        {
            dtype: max(
                *(_gemm_rate(device, dtype, size) for size in GEMM_SIZES[kind]),
                _multiply_add_rate(dtype) if kind == "cpu" else 0.0,
            )
            for dtype in ("float32", "float64")
        },
    )


def _bandwidth(device: str, working_set: int, torch_call: float) -> float:
    source = torch.rand(working_set // 8, dtype=torch.float64, device=device)
    read = seconds_per_call(source.sum, device, slices=5)
    half = source[: len(source) // 2]
    target = torch.empty_like(half)
    copied = seconds_per_call(lambda: target.copy_(half), device, slices=5)
    fastest = min(read, copied)
    return working_set / max(fastest - torch_call, fastest / 10)


def _multiply_add_rate(dtype: str) -> float:
    bound = bind_multiply_adds(dtype)
    return bound.operations / seconds_per_call(bound.call, "cpu")


def _gemm_rate(device: str, dtype: str, size: int) -> float:
    left = torch.randn(size, size, dtype=DTYPES[dtype], device=device)
    out = torch.empty_like(left)
    return 2 * size**3 / seconds_per_call(lambda: torch.mm(left, left, out=out), device, slices=5)
