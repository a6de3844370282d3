"""Select the kernel for `auto`: the one that was the fastest on this machine at the nearest size.

`mlr.tuning` reads what was measured. Where no measured size is near, the first of the operation's
preferred kernels that supports the case is selected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

from . import tuning
from .case import Case
from .declaration import OPERATIONS
from .registry import KERNELS, Kernel, get_kernel

MAX_LOG2_DISTANCE = 3.0  # factors of two from a case to a measured one, over m, n and o together


def is_selectable(kernel: Kernel) -> bool:
    """Say whether a kernel is ours, works on the tensors given, and does not itself select."""
    return kernel.delegates_to is None and not kernel.owns_parameters and not kernel.peer


@lru_cache(maxsize=1024)
def select_by_sizes(
    operation: str, device: torch.device, dtype: torch.dtype, m: int, n: int, o: int
) -> Kernel:
    """Return the kernel that `auto` calls, selected once a process for each size.

    Without a `Case` where it is known already: making one takes as long as a small product.
    """
    name = str(dtype).removeprefix("torch.")
    return select_kernel(Case(operation, str(device), name, m, n, o))


@lru_cache(maxsize=1024)
def select_kernel(case: Case) -> Kernel:
    """Return the kernel that `auto` calls for a case, selected once a process for each."""
    key = (case.operation, _device_type(case.device), case.dtype)
    near = [
        (_log2_distance(one.sizes, case.sizes), one.kernel)
        for one in tuning.current_table(case.device).fastest
        if (one.operation, one.device, one.dtype) == key
    ]
    for distance, name in sorted(near):
        kernel = KERNELS.get(name)
        if distance > MAX_LOG2_DISTANCE:
            break
        if kernel is not None and is_selectable(kernel) and kernel.unsupported(case) is None:
            return kernel
    return _default(case)


def _default(case: Case) -> Kernel:
    preferred = OPERATIONS[case.operation].preferred
    kernels = [get_kernel(name) for name in (preferred(case) if preferred else ())]
    return next(kernel for kernel in kernels if kernel.unsupported(case) is None)


def _log2_distance(one: Sequence[int], other: Sequence[int]) -> float:
    return math.dist([math.log2(size) for size in one], [math.log2(size) for size in other])


def _device_type(device: str) -> str:
    return device.partition(":")[0]
