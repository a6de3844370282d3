"""What a device can do at best, as measured: operations, bandwidth by working set, one call."""

from __future__ import annotations

import ctypes

import torch

from mlr.case import DTYPES

from ..machine.devices import device_of
from ..plan.feasibility import Ceilings
from .multiply_adds import bind_multiply_adds
from .timing import seconds_per_call

BATCHES = 5


def measure_ceilings(device: str) -> Ceilings:
    """Measure what the device can do at best, in a few seconds."""
    probed = device_of(device)
    torch_call_s = seconds_per_call(torch.zeros(1, device=device).neg_, device)
    dispatch_s = torch_call_s
    if probed.is_host:
        dispatch_s = seconds_per_call(ctypes.pythonapi.Py_IsInitialized, device)
    return Ceilings(
        dispatch_s,
        [
            [size, _bandwidth(device, size, torch_call_s)]
            for size in probed.working_sets
            if 2 * size < probed.free_bytes()
        ],
        {
            dtype: max(
                *(_gemm_rate(device, dtype, size) for size in probed.gemm_sizes),
                _multiply_add_rate(dtype) if probed.is_host else 0.0,
            )
            for dtype in ("float32", "float64")
        },
    )


def _bandwidth(device: str, working_set: int, torch_call_s: float) -> float:
    source = torch.rand(working_set // 8, dtype=torch.float64, device=device)
    read = seconds_per_call(source.sum, device, BATCHES)
    half = source[: len(source) // 2]
    target = torch.empty_like(half)
    copied = seconds_per_call(lambda: target.copy_(half), device, BATCHES)
    fastest = min(read, copied)
    return working_set / max(fastest - torch_call_s, fastest / 10)


def _multiply_add_rate(dtype: str) -> float:
    bound = bind_multiply_adds(dtype)
    return bound.flops / seconds_per_call(bound.call, "cpu")


def _gemm_rate(device: str, dtype: str, size: int) -> float:
    left = torch.randn(size, size, dtype=DTYPES[dtype], device=device)
    out = torch.empty_like(left)
    return 2 * size**3 / seconds_per_call(lambda: torch.mm(left, left, out=out), device, BATCHES)
