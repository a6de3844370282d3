"""Build realistic run files without measuring anything: times and memory follow power laws."""

import json
import math
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

Size = tuple[int, int, int]
# Of a kernel: seconds per call, seconds per FLOP, what it holds beside inputs, in numbers.
Law = tuple[float, float, str]

# The seed's own sizes, tall, wide, and o growing at fixed m and n.
SIZES: tuple[Size, ...] = (
    *((33, 6, 3), (100, 6, 3), (1_000, 6, 3), (10_000, 6, 3), (100_000, 6, 3), (1_000_000, 6, 3)),
    *((10_000, 64, 3), (10_000, 256, 3), (10_000, 64, 16), (10_000, 256, 64)),
    *((1_000, 6, 1), (1_000, 6, 10), (1_000, 6, 30), (1_000, 64, 3), (1_000, 64, 10)),
    *((1_000, 64, 30), (1_000, 16, 3), (1_000, 16, 10), (1_000, 16, 30)),
)
BASELINES = {"gradient": "autograd", "step": "torch_nn", "fit": "TorchLinearRegression"}
KERNELS: dict[str, dict[str, Law]] = {
    "gradient": {
        "autograd": (1.2e-4, 4e-11, "2 * m * o"),
        "matmul": (9e-6, 2.5e-11, "n * o + o"),
        "einsum": (1.6e-5, 3e-11, "n * o + o"),
        "factored_einsum": (2.2e-5, 6e-11, "m * o"),
        "outer_sum": (1.4e-5, 2e-10, "m * n * o"),
        "func_vjp": (2.1e-4, 4e-11, "2 * m * o"),
        "kron_einsum": (4e-5, 4e-10, "m * n * o * o + n * o"),
        "full_jacobian": (6e-5, 5e-10, "m * n * o * o + m * o * o"),
        "jacrev": (9e-4, 9e-10, "2 * m * n * o * o"),
    },
    "step": {
        "torch_nn": (2.8e-4, 6e-11, "3 * m * o"),
        "matmul_update": (5e-5, 5e-11, "3 * m * o"),
        "fused_addmm": (2.5e-5, 4e-11, "m * o + o"),
        "kron_update": (9e-5, 5e-10, "m * n * o * o"),
    },
    "fit": {
        "TorchLinearRegression": (2e-2, 4e-8, "3 * m * o"),
        "LinearRegression": (4e-3, 3e-8, "3 * m * o"),
        "EinsumLinearRegression": (7e-3, 3e-7, "m * n * o * o"),
    },
}
# Enough for a report, and quick to draw.
FEW_KERNELS = {
    operation: {name: KERNELS[operation][name] for name in names}
    for operation, names in (
        ("gradient", ("autograd", "matmul", "kron_einsum")),
        ("step", ("torch_nn", "fused_addmm")),
    )
}
MEMORY = 25_000_000_000


def build_run(
    operations: Iterable[str] = ("gradient", "step", "fit"),
    sizes: Iterable[Size] = SIZES,
    device: str = "cpu",
    dtype: str = "float64",
    kernels: Mapping[str, Mapping[str, Law]] = KERNELS,
    slug: str = "amd-epyc-2-core",
    datetime: str = "2026-11-23T05:00:00+00:00",
    processes: int = 1,
) -> dict[str, Any]:
    """Return a run as its JSON: every kernel of every operation at every size.

    One of several processes has samples, a cost and, on a GPU, device times, as later runs do.
    """
    ceilings = {
        "dispatch_s": 1e-6,
        "bandwidth_bytes_per_s": [[32_768, 9e10], [1_000_000_000, 2.8e10]],
        "flops_per_s": {"float32": 1.45e11, "float64": 8.2e10},
    }
    gpu = None if device == "cpu" else "NVIDIA H200"
    machine = {"slug": slug, "cpu": "AMD EPYC", "cores": 2, "memory_bytes": MEMORY, "gpu": gpu}
    settings = {"grid": "quick", "processes": processes, "threads": 1, "omp_wait_policy": None}
    commit = "0123456789abcdef0123456789abcdef01234567"
    run: dict[str, Any] = {
        "machine_info": {"node": "somewhere", "processor": "x86_64"},
        "commit_info": {"id": commit, "time": datetime, "dirty": False, "branch": "main"},
        "benchmarks": [],
        "datetime": datetime,
        "version": "5.3.1",
        "schema": 2,
        "outcomes": [],
        "machine": machine | {"ceilings": {device: ceilings}},
        "settings": settings | {"allocator": {"MALLOC_MMAP_THRESHOLD_": "1073741824"}},
        "packages": {"python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.4.6"},
    }
    run["settings"]["tf32"] = False
    for operation, size in product(operations, sizes):
        for kernel, law in kernels[operation].items():
            add_case(run, operation, kernel, size, law, device, dtype)
    if processes > 1:
        run["cost"] = {"wall_s": 400.0, "warm_up_s": 60.0, "timing_s": 200.0}
        run["cost"] |= {"checking_s": 50.0, "memory_s": 20.0}
        for benchmark in run["benchmarks"]:
            _repeat(benchmark, processes, device)
    return run


def add_case(
    run: dict[str, Any],
    operation: str,
    kernel: str,
    size: Size,
    law: Law = (1e-5, 1e-10, "m * o"),
    device: str = "cpu",
    dtype: str = "float64",
) -> None:
    """Add one planned case, measured if its memory would fit."""
    m, n, o = size
    width = 4 if dtype == "float32" else 8
    memory = width * eval(law[2], {"m": m, "n": n, "o": o}) + 16
    baseline = BASELINES.get(operation, kernel)
    case = {
        **{"operation": operation, "kernel": kernel, "baseline": baseline},
        **{"device": device, "dtype": dtype},
        **{"batch": m, "in_features": n, "out_features": o},
        **{"predicted_peak_bytes": memory, "flops": 2 * m * n * o, "bytes_moved": m * (n + o)},
        **{"status": "ok", "reason": None},
    }
    name = f"bench_kernel[{operation}-{kernel}-{device}-{dtype}-{m}x{n}x{o}]"
    outcome = case | {"fullname": f"bench/bench_kernels.py::{name}"}
    run["outcomes"].append(outcome)
    if memory > MEMORY / 4:
        fail(run, outcome, "infeasible", f"needs {memory} bytes, {MEMORY // 4} are free")
        return
    seconds = _seconds(kernel, size, law)
    usual = KERNELS.get(operation, {}).get(baseline, law)
    speedup, apart = _seconds(baseline, size, usual) / seconds, kernel != baseline
    extra = case | {
        **{"max_rel_error": 2.2e-16, "processes": 1, "peak_bytes": memory, "speedup": speedup},
        "speedup_low": speedup * 0.97 if apart else None,
        "speedup_high": speedup * 1.04 if apart else None,
    }
    stats = {
        **{"min": seconds * 0.93, "max": seconds * 1.9, "mean": seconds * 1.06},
        **{"stddev": seconds * 0.1, "rounds": 50, "median": seconds, "iqr": seconds * 0.11},
        **{"q1": seconds * 0.97, "q3": seconds * 1.08, "iterations": 1, "ops": 1 / seconds},
        "outliers": "3;2",
    }
    named = {"group": operation, "name": name, "fullname": outcome["fullname"]}
    named |= {"params": {"kernel": kernel}, "param": None, "options": {}}
    run["benchmarks"].append(named | {"extra_info": extra, "stats": stats})


def fail(run: dict[str, Any], outcome: dict[str, Any], status: str, reason: str | None) -> None:
    """Turn a planned case into one without numbers."""
    outcome |= {"status": status, "reason": reason}
    name = outcome["fullname"]
    run["benchmarks"] = [entry for entry in run["benchmarks"] if entry["fullname"] != name]


def doubt(
    run: dict[str, Any], outcome: dict[str, Any], warnings: list[str], **columns: float
) -> None:
    """Make a measured case doubtful, with further columns."""
    for benchmark in run["benchmarks"]:
        if benchmark["fullname"] == outcome["fullname"]:
            benchmark["extra_info"] |= {"warnings": warnings, **columns}


def disturb(run: dict[str, Any], outcome: dict[str, Any], count: int) -> None:
    """Let something disturb the first samples of a case, of which one is taken again."""
    for benchmark in run["benchmarks"]:
        if benchmark["fullname"] == outcome["fullname"]:
            samples = benchmark["samples"]
            samples.append(samples[-1] | {"process": run["settings"]["processes"] + 1})
            samples[:count] = [sample | {"contended": True} for sample in samples[:count]]


def cases(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all that a run says of its cases, twice of those that were measured."""
    return [*run["outcomes"], *(entry["extra_info"] for entry in run["benchmarks"])]


def rename(run: dict[str, Any], old: str, new: str) -> None:
    """Give a kernel another name, wherever it stands."""
    for entry in cases(run):
        entry |= {key: new for key in ("kernel", "baseline") if entry[key] == old}
    for entry in [*run["outcomes"], *run["benchmarks"]]:
        entry["fullname"] = entry["fullname"].replace(f"[{old}-", f"[{new}-")


def play(run: dict[str, Any], kernel: str, role: str) -> None:
    """Give a kernel a role, wherever it stands."""
    for entry in cases(run):
        entry |= {"role": role} if entry["kernel"] == kernel else {}


def spoil(run: dict[str, Any], text: str) -> None:
    """Put a text wherever a run has one of its own: a kernel, a failure, settings, machine."""
    rename(run, "matmul", text)
    fail(run, run["outcomes"][-1], "crashed", text)
    run["settings"][text] = text
    run["machine"]["cpu"] = run["commit_info"]["branch"] = text


def save(run: Any, path: Path) -> Path:
    """Store a run, valid or not, as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1), encoding="utf-8")
    return path


def frame_of(run: dict[str, Any], name: str = "a") -> Any:
    """Return the frame of one run."""
    from bench.store.runs import runs_frame  # with pandas, which a fake worker does without
    from bench.store.schema import Run

    return runs_frame([(Path(f"{name}.json"), Run.model_validate(run))])


# A measured case of a frame, but for what a test is about.
USUAL = {
    **{"machine": "here", "run": "a", "dirty": False, "operation": "step", "device": "cpu"},
    **{"dtype": "float64", "threads": 1, "batch": 7, "in_features": 6, "out_features": 3},
    **{"baseline": "base", "role": "kernel", "status": "ok", "untracked_bytes": 0.0},
}


def frame_of_rows(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return the frame of some measured cases, each told by what it has that is not usual."""
    from bench.store.runs import typed_frame

    return typed_frame(USUAL | row for row in rows)


def _seconds(kernel: str, size: Size, law: Law) -> float:
    m, n, o = size
    per_call, per_flop, held = law
    growth = o if "* o * o" in held else 1
    # A fixed wobble, so that the lines are not exactly straight.
    wobble = 1 + 0.1 * math.sin(7 * m + 5 * n + 3 * o + len(kernel))
    return wobble * (per_call + per_flop * 2 * m * n * o * growth)


def _repeat(benchmark: dict[str, Any], processes: int, device: str) -> None:
    stats, extra = benchmark["stats"], benchmark["extra_info"]
    median, middle = stats["median"], (processes - 1) / 2
    medians = [median * (1 + 0.01 * (place - middle)) for place in range(processes)]
    stats |= {"data": medians, "rounds": processes, "min": medians[0], "max": medians[-1]}
    stats |= {"q1": median * 0.99, "q3": median * 1.01}
    extra |= {"processes": processes, "contended_processes": 0, "warnings": []}
    if device != "cpu":
        extra |= {"device_hot_s": 0.5 * median, "device_cold_s": 0.6 * median}
        extra |= {"launch_gap_s": 0.4 * median}
    benchmark["samples"] = [
        {"process": place, "median_s": median, "rounds": 10} for place, median in enumerate(medians)
    ]
