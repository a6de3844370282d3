"""What a device can do at best, as measured: operations, bandwidth by working set, one call."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from mlr.case import DTYPES, Case
from mlr.compiled import bind_multiply_adds

from ..machine.info import free_bytes
from .timing import seconds_per_call

CPU_WORKING_SETS = tuple(4**power * 1024 for power in range(2, 10))  # 16 KiB to 256 MiB
CUDA_WORKING_SETS = tuple(4**power * 1024 for power in range(5, 12))  # 1 MiB to 4 GiB
GEMM_SIZES = {"cpu": (512, 1024), "cuda": (4096, 8192)}


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
