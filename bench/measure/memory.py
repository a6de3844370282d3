"""The memory of one call: its peak, what it leaves behind, and what torch does not see of it."""

from typing import NamedTuple

from mlr import OPERATIONS, Case, Kernel, Problem

from ..machine.devices import Call, device_of


class Memory(NamedTuple):
    """Bytes that one call holds."""

    # The most at once beyond the inputs: outputs, parameters, what binding keeps; None: uncounted.
    peak_bytes: int | None
    leak_bytes: int  # what one more call leaves behind after its result is dropped
    untracked_bytes: int  # at least so much at peak did not come from torch


def measure_memory(kernel: Kernel, case: Case) -> Memory:
    """Measure what one call holds.

    The peak is exact to the byte: what torch's allocator was asked for, by its own events on the
    CPU and by its own counters on an accelerator. For what torch does not allocate see
    `untracked_bytes` of the device; of a kernel that allocates outside torch the peak is what its
    call says, or None.
    """
    device, problem = device_of(case.device), Problem(case)
    device.load_libraries(case.dtype)
    problem.share_inputs()  # so that every input is made before memory is counted
    held: list[tuple[Problem, Call]] = []

    def bind() -> None:
        own = problem.share_inputs()
        held.append((own, kernel.bind(own)))

    def bind_and_call() -> None:
        bind()
        held[-1][1]()

    if getattr(kernel, "allocates_outside_torch", False):  # one of an older version does not say
        bind()
        return Memory(getattr(held[-1][1], "peak_bytes", None), 0, 0)
    # These come first and are kept: so what a library allocates once is there, and what CUDA's
    # random numbers have while a graph lives.
    untracked = 0 if device.is_host else device.untracked_bytes(bind_and_call, 0)
    kept = device.allocations(bind).held_bytes
    call, peaks, leak = held[-1][1], [], 0
    # A step may keep what its next needs; what it keeps after that is a leak.
    for _ in range(2 if OPERATIONS[case.operation].stateful else 1):
        leak, peak = device.allocations(call)
        peaks.append(kept + peak)
        kept += leak
    if device.is_host:
        untracked = device.untracked_bytes(call, max(peaks))
    return Memory(max(peaks), max(leak, 0), untracked)
