"""Which kernel `auto` takes: the one that was fastest here at the nearest size, or a default.

See `mlr.rule` for what is known of a machine. Where nothing is, or nothing near, the default is
taken: the one-pass kernels where they take the case, and else one product.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from . import rule
from .case import Case
from .registry import KERNELS, Kernel, get_kernel

FARTHEST = 3.0  # factors of two between a case and a measured one, over m, n and o together
IN_CACHE_BYTES = 2**20  # of X: beyond it a block is read again out of the cache, not out of memory


def can_be_chosen(kernel: Kernel) -> bool:
    """Say whether a kernel is ours, works on the tensors given, and does not itself choose."""
    return kernel.stands_for is None and not kernel.own_parameters and not kernel.peer


@lru_cache(maxsize=1024)
def gradient_for(device: torch.device, dtype: torch.dtype, m: int, n: int, o: int) -> Kernel:
    """Return the gradient kernel that `auto` takes, found once a process for each size.

    Without a `Case` where it is known already: making one takes as long as a small product.
    """
    name = str(dtype).removeprefix("torch.")
    return chosen(Case("gradient", str(device), name, m, n, o))


@lru_cache(maxsize=1024)
def chosen(case: Case) -> Kernel:
    """Return the kernel that `auto` takes for a case, found once a process for each."""
    near = [
        (_apart(one.sizes, case.sizes), one.kernel)
        for one in rule.current().fastest
        if (one.stage, one.device, one.dtype) == (case.stage, _kind(case.device), case.dtype)
    ]
    for apart, name in sorted(near):
        kernel = KERNELS.get(name)
        if apart > FARTHEST:
            break
        if kernel is not None and can_be_chosen(kernel) and kernel.unsupported(case) is None:
            return kernel
    return _default(case)


def _default(case: Case) -> Kernel:
    names = {"gradient": ("one_pass", "matmul"), "step": ("one_pass_step", "fused_addmm")}
    first, second = (get_kernel(name) for name in names[case.stage])
    if first.unsupported(case) is None:
        return first
    m, n, _ = case.sizes
    if (
        case.stage == "step"
        and _kind(case.device) == "cpu"
        and m * n * case.itemsize > IN_CACHE_BYTES
    ):
        return get_kernel("blocked")
    return second


def _apart(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    return math.dist([math.log2(size) for size in one], [math.log2(size) for size in other])


def _kind(device: str) -> str:
    return device.partition(":")[0]
