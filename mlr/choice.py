"""Which kernel `auto` takes: the one that was fastest here at the nearest size, or a default.

`python -m bench rule` writes down what runs of this machine found. A rule holds for the processor
and the GPU that it was measured on; on any other, and where there is none, or nothing near, the
default is taken: the one-pass kernels where W is small, and else one product.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from . import compiled
from .case import Case
from .registry import KERNELS, Kernel, get_kernel

RULE_VARIABLE = "MLR_RULE"
FARTHEST = 3.0  # factors of two between a case and a measured one, over m, n and o together
IN_CACHE_BYTES = 2**20  # of X: beyond it a block is read again out of the cache, not out of memory


class Fastest(NamedTuple):
    """One measured case and the kernel that was the fastest at it."""

    stage: str
    device: str
    dtype: str
    sizes: tuple[int, int, int]
    kernel: str


def rule_path() -> Path:
    """Return where this user's rule lies: `MLR_RULE`, or `mlr/rule.json` among the settings."""
    if named := os.environ.get(RULE_VARIABLE):
        return Path(named)
    settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings) / "mlr" / "rule.json"


def surroundings() -> dict[str, Any]:
    """Return what a rule depends on: the processor and the GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": compiled.processor(), "gpu": gpu}


@cache
def read_rule(path: Path) -> tuple[Fastest, ...]:
    """Read a rule; nothing where there is none, or where it was made elsewhere.

    A file that is no rule is told once, by a warning, and not used.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        found = tuple(
            Fastest(stage, device, dtype, (m, n, o), kernel)
            for stage, device, dtype, m, n, o, kernel in held["fastest"]
            if min(m, n, o) >= 1 and isinstance(kernel, str)
        )
        return found if held["of"] == surroundings() else ()
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(
            f"a rule is what `python -m bench rule` writes; {path} is none "
            f"({type(error).__name__}: {error}); the default is used; remove it",
            stacklevel=2,
        )
        return ()


def can_be_chosen(kernel: Kernel) -> bool:
    """Say whether a kernel is ours, works on the tensors given, and does not itself choose."""
    return kernel.stands_for is None and not kernel.own_parameters and not kernel.peer


@lru_cache(maxsize=1024)
def chosen(case: Case) -> Kernel:
    """Return the kernel that `auto` takes for a case, found once a process for each."""
    near = [
        (_apart(one.sizes, case.sizes), one.kernel)
        for one in read_rule(rule_path())
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
    narrow, wide = (get_kernel(name) for name in names[case.stage])
    if narrow.unsupported(case) is None:
        return narrow
    m, n, _ = case.sizes
    if (
        case.stage == "step"
        and _kind(case.device) == "cpu"
        and m * n * case.itemsize > IN_CACHE_BYTES
    ):
        return get_kernel("blocked")
    return wide


def _apart(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    return math.dist([math.log2(size) for size in one], [math.log2(size) for size in other])


def _kind(device: str) -> str:
    return device.partition(":")[0]
