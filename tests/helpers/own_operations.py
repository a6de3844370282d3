"""Build runs of made-up operations with axes of their own, as a run file has them."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from run_builder import build_run

Axes = Mapping[str, Sequence[int]]
CUMSUM: Axes = {"length": (10, 100, 1_000)}
SOFTMAX: Axes = {"batch": (64, 4_096), "classes": (10, 1_000)}
ATTENTION: Axes = {"batch": (1, 8), "heads": (2, 4), "tokens": (16, 64, 256), "width": (8, 32)}
# What nobody declared; an operation without it has no error bound either.
COSTS = (
    "predicted_peak_bytes",
    "flops",
    "bytes_moved",
    "least_flops",
    "least_bytes",
    "input_bytes",
)
KERNELS = {"plain": 1.0, "by_hand": 3.0, "compiled": 2.0}


def own_run(
    operations: Mapping[str, Axes], undeclared: Sequence[str] = (), **given: Any
) -> dict[str, Any]:
    """Return a run of operations by name, each with the product of its axes' sizes."""
    run = build_run([], **given)
    for operation, axes in operations.items():
        for sizes in product(*axes.values()):
            for kernel, speedup in KERNELS.items():
                case = dict(zip(axes, sizes, strict=True))
                add_own_case(run, operation, kernel, case, speedup, operation not in undeclared)
    return run


def add_own_case(
    run: dict[str, Any],
    operation: str,
    kernel: str,
    sizes: dict[str, int],
    speedup: float = 1.0,
    declared: bool = True,
) -> None:
    """Add one measured case."""
    work, case = 1, "x".join(map(str, sizes.values()))
    for size in sizes.values():
        work *= size
    name = f"bench_kernel[{operation}-{kernel}-cpu-float64-{case}]"
    columns: dict[str, Any] = {
        **{"operation": operation, "kernel": kernel, "baseline": "plain", "device": "cpu"},
        **{"dtype": "float64", "sizes": sizes, "threads": 1, "role": "kernel", "status": "ok"},
        **{"reason": None, "iterative": False},
        **dict.fromkeys(COSTS, 8 * work if declared else None),
    }
    low, high = (None, None) if kernel == "plain" else (speedup * 0.97, speedup * 1.04)
    extra = columns | {
        **{"max_rel_error": 2e-16, "tolerance_of": "bound" if declared else "baseline"},
        **{"speedup": speedup, "speedup_low": low, "speedup_high": high},
        **{"processes": 5, "peak_bytes": 8 * work, "first_call_s": 1e-3},
    }
    fullname, seconds = f"bench/bench_kernels.py::{name}", (1e-5 + 1e-9 * work) / speedup
    stats = {
        **{"min": seconds, "max": seconds, "mean": seconds, "stddev": 0.0, "rounds": 5},
        **{"median": seconds, "q1": seconds, "q3": seconds, "iterations": 1},
    }
    run["outcomes"].append(columns | {"fullname": fullname})
    named = {"name": name, "fullname": fullname, "extra_info": extra, "stats": stats}
    run["benchmarks"].append(named)
