"""Build scaling runs over four processes without measuring anything, on a link that is known."""

import math
import random
from typing import Any

from bench.scaling.metrics import LinkModel
from bench.scaling.records import ScalingRun

KNOWN = LinkModel(11e-6, 1 / 2.5e9)
SIZES = tuple(64 * 4**power for power in range(9))
CASES = ((10_000, 6, 3), (100_000, 64, 16))
TIMES = ("step_s", "single_process_s", "compute_s", "compute_max_s", "allreduce_s",
         "ddp_log_ratios")  # fmt: skip


def all_reduces(link: LinkModel = KNOWN, world: int = 4, noise: float = 0.0) -> list[Any]:
    """All-reduces of a link in five rounds, off by up to `noise`."""
    order = random.Random(0)
    return [
        {"bytes": size, "seconds": [link.all_reduce_s(world, size)
                                    * math.exp(noise * order.uniform(-1, 1)) for _ in range(5)]}
        for size in SIZES
    ]  # fmt: skip


def result(kernel: str, case: tuple[int, int, int] = CASES[0], **changed: Any) -> dict[str, Any]:
    """One kernel over four ranks in three rounds, whose link is `KNOWN`; some kernels are faster.

    A single process takes four times what the slowest of the ranks computes.
    """
    m, n, o = case
    faster = {"one_pass": 0.5, "ddp": 1.6, "statistics": 0.4}.get(kernel, 1.0)
    message = 8 * (n * o + o + 1)
    compute = [1e-9 * faster * m * n * o / 4 * drift for drift in (1.0, 1.1, 0.9)]
    sent = KNOWN.all_reduce_s(4, message)
    found = {
        "kernel": kernel, "dtype": "float64", "batch": m, "in_features": n, "out_features": o,
        "max_rel_error": 1e-16, "message_bytes": message,
        "step_s": [one + sent for one in compute],
        "single_process_s": [4 * one for one in compute],
        "compute_s": [[one, one / 1.25, one / 1.1, one / 1.2] for one in compute],
        "compute_max_s": compute,
        "allreduce_s": [sent] * 3,
        "ddp_log_ratios": [math.log(1.6 / faster) + shift for shift in (-0.1, 0.0, 0.1)],
    }  # fmt: skip
    if kernel == "ddp":
        found |= {name: [] for name in TIMES[2:]}
    return found | changed


def failed(kernel: str, status: str = "wrong", **changed: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"status": status, "reason": "it is off", "max_rel_error": None}
    return result(kernel) | nothing | {name: [] for name in TIMES} | changed


def stored(**changed: Any) -> dict[str, Any]:
    """A run of four processes."""
    ranks = [{"rank": rank, "machine": "here", "host": "h", "cores": 4, "threads": 1}
             for rank in range(4)]  # fmt: skip
    kernels = ("matmul", "one_pass", "ddp", "statistics")
    return {
        "schema": 2, "datetime": "2026-11-24T05:00:00+00:00", "machine": "here",
        "commit_info": {"id": "0123456789abcdef", "dirty": False}, "mode": "strong", "world": 4,
        "settings": {"rounds": 3}, "packages": {}, "ranks": ranks,
        "results": [*(result(name, case) for case in CASES for name in kernels), failed("mutant")],
        "all_reduces": all_reduces(),
    } | changed  # fmt: skip


def run_of(**changed: Any) -> ScalingRun:
    return ScalingRun.model_validate(stored(**changed))
