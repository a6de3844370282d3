"""The memory of one call: its peak, what it leaves behind, and what torch does not see of it."""

from typing import NamedTuple

import torch

from mlr import OPERATIONS, Case, Kernel, Problem

from ..machine.devices import Call, device_of

# Of a failed allocation on the CPU; of the CUDA driver, cuBLAS, and XLA.
OUT_OF_MEMORY = (
    "can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED",
)  # fmt: skip


class Memory(NamedTuple):
    """Bytes that one call holds."""

    # The most at once beyond the inputs: outputs, parameters, what binding keeps; None: uncounted.
    peak_bytes: int | None
    leak_bytes: int  # what one more call leaves behind after its result is dropped
    untracked_bytes: int  # at least so much at peak did not come from torch


def measure_memory(kernel: Kernel, case: Case) -> Memory:
    """Measure what one call holds.

    On the CPU the peak is exact to the byte, from the allocator's own events; on an accelerator to
    its blocks, of 512 bytes on CUDA. For what torch does not allocate see `untracked_bytes` of the
    device; of a kernel that allocates outside torch the peak is what its call says, or None.
    """
    device, problem = device_of(case.device), Problem(case)
    problem.share_inputs()  # so that every input is made before memory is counted
    bound: list[Call] = []
    kept = device.allocations(lambda: bound.append(kernel.bind(problem))).held_bytes
    (call,) = bound
    if getattr(kernel, "allocates_outside_torch", False):  # one of an older version does not say
        return Memory(getattr(call, "peak_bytes", None), 0, 0)
    if not device.is_host:  # a library may keep a workspace from its first call on
        kept += device.allocations(call).held_bytes
    peaks, leak = [], 0
    # A step may keep what its next needs; what it keeps after that is a leak.
    for _ in range(2 if OPERATIONS[case.operation].stateful else 1):
        leak, peak = device.allocations(call)
        peaks.append(kept + peak)
        kept += leak
    untracked = device.untracked_bytes(call, max(peaks)) if device.is_host else 0
    return Memory(max(peaks), max(leak, 0), untracked)


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error is an allocator's: Python's, torch's, or that of a library."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    )
